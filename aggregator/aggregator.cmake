# orgtrail-aggregator: ingest → verify → admit → ledger ⇐ followers. And `orgtrail`, the command line.
orgtrail_library(aggregator_admit SOURCES aggregator/admit/address_term.cc aggregator/admit/admitter.cc aggregator/admit/terms.cc
  DEPS common_format common_json PkgConfig::xxhash)
orgtrail_library(aggregator_ledger
  SOURCES aggregator/ledger/ledger.cc aggregator/ledger/committer.cc aggregator/ledger/registry.cc aggregator/ledger/head.cc aggregator/ledger/branch.cc
          aggregator/ledger/tail.cc aggregator/ledger/anchor.cc aggregator/ledger/shard.cc aggregator/ledger/inflater.cc
          aggregator/ledger/fsck.cc aggregator/ledger/shard_check.cc aggregator/ledger/repair.cc aggregator/ledger/backup.cc aggregator/ledger/shards.cc aggregator/ledger/roll.cc aggregator/ledger/blocks.cc aggregator/ledger/repack.cc aggregator/ledger/rewrite.cc aggregator/ledger/pruner.cc aggregator/ledger/expiry.cc aggregator/ledger/disk_ledger_pruning.cc
          aggregator/ledger/disk_ledger_reading.cc aggregator/ledger/missing_bodies.cc
  DEPS aggregator_admit common_format common_lmdb common_fs)
orgtrail_library(aggregator_verify SOURCES aggregator/verify/verifier.cc aggregator/verify/lane.cc aggregator/verify/answer.cc
          aggregator/verify/observe.cc aggregator/verify/branches.cc aggregator/verify/slot_keys.cc
  DEPS aggregator_ledger common_seal common_metrics)
orgtrail_library(aggregator_ingest SOURCES aggregator/ingest/answers.cc aggregator/ingest/service.cc aggregator/ingest/session.cc
  aggregator/ingest/welcome.cc
  DEPS aggregator_verify common_rpc common_metrics orgtrail_proto)
orgtrail_library(aggregator_index SOURCES aggregator/index/history.cc aggregator/index/ordinals.cc aggregator/index/run.cc aggregator/index/merge.cc aggregator/index/recent.cc
          aggregator/index/search.cc aggregator/index/postings.cc aggregator/index/run_writer.cc aggregator/index/combine.cc aggregator/index/sort.cc
          aggregator/index/leaves.cc aggregator/index/reuse.cc
  DEPS aggregator_ledger common_metrics)
orgtrail_library(aggregator_scrub SOURCES aggregator/scrub/scrubber.cc aggregator/scrub/child.cc aggregator/scrub/lines.cc
          aggregator/scrub/process.cc aggregator/scrub/put_back.cc aggregator/scrub/refill.cc DEPS aggregator_index)
orgtrail_library(aggregator_query SOURCES aggregator/query/service.cc aggregator/query/lookup.cc aggregator/query/completeness.cc
          aggregator/query/gaps.cc aggregator/query/read_log.cc
          aggregator/query/access.cc aggregator/query/envelope.cc aggregator/query/filter.cc aggregator/query/pool.cc
          aggregator/query/posted_by.cc aggregator/query/whole_record.cc aggregator/query/cursor.cc
  DEPS aggregator_index common_rpc simdjson::simdjson)
orgtrail_library(aggregator_feed SOURCES aggregator/feed/service.cc aggregator/feed/subscription.cc
  DEPS aggregator_query)
orgtrail_library(aggregator_transparency SOURCES aggregator/transparency/service.cc aggregator/transparency/event_proof.cc
          aggregator/transparency/statement.cc aggregator/transparency/transparency.cc
  DEPS aggregator_query)
orgtrail_library(aggregator_own SOURCES aggregator/own/own_agent.cc aggregator/own/journal.cc DEPS aggregator_ledger common_seal)
orgtrail_library(aggregator_alarms SOURCES aggregator/alarms/alarms.cc aggregator/alarms/watch.cc aggregator/alarms/notifier.cc
  DEPS aggregator_ledger common_metrics common_http_client simdjson::simdjson)

# The command line every person uses. Only rpc.cc includes gRPC.
orgtrail_library(aggregator_config SOURCES aggregator/config.cc DEPS common_config)
orgtrail_library(aggregator_client
  SOURCES aggregator/client/context.cc aggregator/client/rpc.cc aggregator/client/table.cc aggregator/client/shards.cc aggregator/client/envelope.cc
          aggregator/client/cursor_file.cc aggregator/client/organization.cc
          aggregator/client/commands_help.cc aggregator/client/commands_org.cc aggregator/client/commands_people.cc aggregator/client/commands_record.cc aggregator/client/commands_agents.cc aggregator/client/commands_events.cc
          aggregator/client/commands_feed.cc aggregator/client/commands_status.cc aggregator/client/commands_policy.cc aggregator/client/commands_retention.cc aggregator/client/governance.cc aggregator/client/commands_alarms.cc aggregator/client/commands_prove.cc
          aggregator/client/commands_store.cc aggregator/client/commands_backup.cc aggregator/client/commands_repair.cc aggregator/client/child.cc aggregator/client/inspect.cc aggregator/client/progress.cc
  DEPS aggregator_config aggregator_admit aggregator_ledger aggregator_scrub common_rpc common_fs common_format common_http_client common_manual)
orgtrail_program(orgtrail SOURCES aggregator/client/main.cc DEPS aggregator_client)
orgtrail_library(aggregator_enrol
  SOURCES aggregator/enrol/authority.cc aggregator/enrol/limiter.cc aggregator/enrol/desk.cc aggregator/enrol/server_renewal.cc
          aggregator/enrol/service.cc
  DEPS aggregator_ledger common_rpc)
orgtrail_library(aggregator_admin SOURCES aggregator/admin/epochs.cc aggregator/admin/office.cc aggregator/admin/service.cc
  DEPS aggregator_alarms aggregator_enrol aggregator_ingest)
orgtrail_program(orgtrail-aggregator
  SOURCES aggregator/main.cc aggregator/aggregator.cc aggregator/keys.cc aggregator/control_leaves.cc aggregator/door.cc aggregator/gauges.cc aggregator/store_care.cc
  DEPS aggregator_config aggregator_own aggregator_scrub aggregator_alarms aggregator_admin aggregator_enrol aggregator_ingest aggregator_query
       aggregator_feed aggregator_transparency common_observability common_daemon)
