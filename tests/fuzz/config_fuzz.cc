// Configuration files of both programs: any text is either a configuration or an error with words.
#include "agent/config.h"
#include "aggregator/config.h"
#include "tests/fuzz/target.h"

namespace orgtrail::fuzz {

void One(std::string_view in) {
  const absl::StatusOr<AgentConfig> agent = ParseAgentConfig("agent.yaml", in);
  CHECK(agent.ok() ? !agent->account.empty() : !agent.status().message().empty());
  const absl::StatusOr<AggregatorConfig> aggregator = ParseAggregatorConfig("aggregator.yaml", in);
  CHECK(aggregator.ok() ? !aggregator->management_account.empty() : !aggregator.status().message().empty());
}
std::vector<std::string> Seeds() { return {}; }

}  // namespace orgtrail::fuzz
