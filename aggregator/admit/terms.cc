#include "aggregator/admit/terms.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <arpa/inet.h>

#include <algorithm>
#include <array>

#include "aggregator/admit/address_term.h"
#include "common/base/limits.h"

namespace orgtrail {
namespace {

using json::Fields;
using json::Value;

struct AttributeText {
  Attribute attribute;
  std::string_view name;
};
constexpr AttributeText kAttributes[] = {
    {Attribute::kEventId, "EventId"},           {Attribute::kEventName, "EventName"},
    {Attribute::kReadOnly, "ReadOnly"},         {Attribute::kUsername, "Username"},
    {Attribute::kResourceType, "ResourceType"}, {Attribute::kResourceName, "ResourceName"},
    {Attribute::kEventSource, "EventSource"},   {Attribute::kAccessKeyId, "AccessKeyId"},
    {Attribute::kAccount, "Account"},           {Attribute::kRegion, "Region"},
    {Attribute::kErrorCode, "ErrorCode"},       {Attribute::kSourceIp, "SourceIp"},
    {Attribute::kPrincipal, "Principal"},       {Attribute::kHasError, "HasError"},
    {Attribute::kOwn, "Own"},
};

// Members of requestParameters and responseElements that name a resource, sorted. `service` is what eventSource begins with
// for the type to hold ("": any); the name is a resource name either way.
struct Member {
  std::string_view name, type, service;
};
constexpr Member kMembers[] = {
    {"accessKeyId", "AWS::IAM::AccessKey", ""},
    {"bucketName", "AWS::S3::Bucket", ""},
    {"dBClusterIdentifier", "AWS::RDS::DBCluster", ""},
    {"dBInstanceIdentifier", "AWS::RDS::DBInstance", ""},
    {"dBSnapshotIdentifier", "AWS::RDS::DBSnapshot", ""},
    {"functionName", "AWS::Lambda::Function", ""},
    {"groupId", "AWS::EC2::SecurityGroup", "ec2."},
    {"groupName", "AWS::IAM::Group", "iam."},
    {"imageId", "AWS::EC2::Ami", ""},
    {"instanceId", "AWS::EC2::Instance", ""},
    {"instanceIds", "AWS::EC2::Instance", ""},
    {"instanceProfileName", "AWS::IAM::InstanceProfile", ""},
    {"internetGatewayId", "AWS::EC2::InternetGateway", ""},
    {"keyId", "AWS::KMS::Key", ""},
    {"logGroupName", "AWS::Logs::LogGroup", ""},
    {"networkInterfaceId", "AWS::EC2::NetworkInterface", ""},
    {"policyArn", "AWS::IAM::Policy", "iam."},
    {"policyName", "AWS::IAM::Policy", "iam."},
    {"queueUrl", "AWS::SQS::Queue", ""},
    {"roleArn", "AWS::IAM::Role", ""},
    {"roleName", "AWS::IAM::Role", ""},
    {"routeTableId", "AWS::EC2::RouteTable", ""},
    {"secretId", "AWS::SecretsManager::Secret", ""},
    {"snapshotId", "AWS::EC2::Snapshot", "ec2."},
    {"stackName", "AWS::CloudFormation::Stack", ""},
    {"subnetId", "AWS::EC2::Subnet", ""},
    {"tableName", "AWS::DynamoDB::Table", "dynamodb."},
    {"topicArn", "AWS::SNS::Topic", ""},
    {"trailName", "AWS::CloudTrail::Trail", ""},
    {"userName", "AWS::IAM::User", "iam."},
    {"volumeId", "AWS::EC2::Volume", ""},
    {"vpcId", "AWS::EC2::VPC", ""},
};
static_assert(std::is_sorted(std::begin(kMembers), std::end(kMembers), [](const Member& a, const Member& b) { return a.name < b.name; }));

const Member* FindMember(std::string_view name) {
  const auto* found =
      std::lower_bound(std::begin(kMembers), std::end(kMembers), name, [](const Member& m, std::string_view n) { return m.name < n; });
  return found != std::end(kMembers) && found->name == name ? found : nullptr;
}

bool IsString(const Value& value, std::string_view text) {
  return value.type == Value::Type::kString && !value.escaped && value.text() == text;
}

bool BeginsWithVerb(std::string_view name) {
  for (std::string_view verb : {"Get", "List", "Describe", "Head", "Lookup", "Search", "BatchGet", "BatchDescribe", "Query", "Scan",
                                "Select", "View", "Check"}) {
    if (!name.starts_with(verb)) continue;
    // "GetObject", not "Getaway".
    if (name.size() == verb.size() || name[verb.size()] < 'a' || name[verb.size()] > 'z') return true;
  }
  return false;
}

bool NamesArn(std::string_view member) {
  return member.ends_with("Arn") || member.ends_with("ARN") || member == "arn" || member == "aRN";
}

// Calls sink(attribute, value) for every term, in a fixed order; a resource may come more than once.
template <class Sink>
void Visit(const Fields& f, Sink sink) {
  std::string scratch;
  const auto text = [&scratch](const Value& v) { return v.type == Value::Type::kString ? json::Text(v, scratch) : std::string_view(); };
  const auto add = [&](Attribute attribute, const Value& v) {
    const std::string_view value = text(v);
    if (!value.empty()) sink(attribute, value);
    return !value.empty();
  };

  add(Attribute::kEventId, f.event_id);
  add(Attribute::kEventName, f.event_name);
  add(Attribute::kEventSource, f.event_source);
  if (IsString(f.event_source, "orgtrail")) sink(Attribute::kOwn, "true");

  if (f.read_only.type == Value::Type::kTrue || IsString(f.read_only, "true")) {
    sink(Attribute::kReadOnly, "true");
  } else if (f.read_only.type == Value::Type::kFalse || IsString(f.read_only, "false")) {
    sink(Attribute::kReadOnly, "false");
  } else if (const std::string_view name = text(f.event_name); !name.empty()) {
    sink(Attribute::kReadOnly, BeginsWithVerb(name) ? "true" : "false");
  }

  if (IsString(f.identity_type, "Root")) {
    sink(Attribute::kUsername, "root");
  } else if (!add(Attribute::kUsername, f.identity_user_name)) {
    if (IsString(f.identity_type, "AssumedRole") || IsString(f.identity_type, "FederatedUser")) {
      // principalId is "AROA…:session", arn ends in "/session"; older records have only one of them.
      std::string_view session = text(f.identity_principal);
      size_t at = session.find(':');
      if (at == std::string_view::npos) {
        session = text(f.identity_arn);
        at = session.rfind('/');
      }
      if (at != std::string_view::npos && at + 1 < session.size()) sink(Attribute::kUsername, session.substr(at + 1));
    }
  }
  add(Attribute::kPrincipal, f.identity_arn);
  add(Attribute::kPrincipal, f.identity_principal);
  add(Attribute::kPrincipal, f.identity_user_name);
  add(Attribute::kPrincipal, f.issuer_arn);
  if (IsString(f.identity_type, "AWSService")) add(Attribute::kPrincipal, f.identity_invoked_by);
  add(Attribute::kAccessKeyId, f.identity_access_key);

  if (const std::string_view ip = text(f.source_ip); !ip.empty()) {
    char canonical[kIpTextBytes];
    sink(Attribute::kSourceIp, CanonicalIp(ip, canonical));
  }
  if (add(Attribute::kErrorCode, f.error_code)) sink(Attribute::kHasError, "true");

  for (const json::Resource& r : f.resources) {
    add(Attribute::kResourceType, r.type);
    add(Attribute::kResourceName, r.name);
  }
  const std::string_view source = f.event_source.type == Value::Type::kString ? f.event_source.text() : std::string_view();
  for (const json::Parameter& p : f.parameters) {
    if (const Member* member = FindMember(p.name); member != nullptr) {
      if (add(Attribute::kResourceName, p.value) && source.starts_with(member->service)) sink(Attribute::kResourceType, member->type);
    } else if (p.top && NamesArn(p.name)) {
      add(Attribute::kResourceName, p.value);
    } else if (p.top && p.name == "name" && source == "cloudtrail.amazonaws.com") {
      if (add(Attribute::kResourceName, p.value)) sink(Attribute::kResourceType, "AWS::CloudTrail::Trail");
    }
  }
}

}  // namespace

std::string_view CanonicalIp(std::string_view text, char (&out)[kIpTextBytes]) {
  if (text.size() >= sizeof out) return text;
  char copy[kIpTextBytes];
  text.copy(copy, text.size());
  copy[text.size()] = '\0';
  if (text.find(':') == std::string_view::npos) return text;  // dotted quads have one spelling, names are their own
  std::array<uint8_t, 16> address{};
  if (inet_pton(AF_INET6, copy, address.data()) != 1) return text;
  static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
  const bool mapped = std::equal(std::begin(kMapped), std::end(kMapped), address.begin());  // ::ffff:192.0.2.1 is 192.0.2.1
  if (inet_ntop(mapped ? AF_INET : AF_INET6, address.data() + (mapped ? 12 : 0), out, sizeof out) == nullptr) return text;
  return out;
}

std::optional<Attribute> ParseAttribute(std::string_view name) {
  for (const AttributeText& a : kAttributes) {
    if (a.name == name) return a.attribute;
  }
  return std::nullopt;
}

std::string_view AttributeName(Attribute attribute) {
  for (const AttributeText& a : kAttributes) {
    if (a.attribute == attribute) return a.name;
  }
  return "";
}

uint64_t TermHash(Attribute attribute, std::string_view value) {
  if (attribute == Attribute::kSourceIp && value.find(':') == std::string_view::npos) {
    if (const std::optional<IpBytes> ip = ParseIp(value)) return AddressTerm(*ip);
  }
  value = value.substr(0, limits::kIndexValueBytes);
  const uint64_t hash = XXH3_64bits_withSeed(value.data(), value.size(), static_cast<uint64_t>(attribute)) & ~(kAddressBit | kIdBit);
  return attribute == Attribute::kEventId ? hash | kIdBit : hash;
}

std::vector<Term> TermsOf(const Fields& fields) {
  std::vector<Term> terms;
  Visit(fields, [&terms](Attribute attribute, std::string_view value) {
    for (const Term& t : terms) {
      if (t.attribute == attribute && t.value == value) return;
    }
    terms.push_back({attribute, std::string(value)});
  });
  return terms;
}

void AppendTermHashes(const Fields& fields, std::vector<uint64_t>* hashes) {
  const size_t begin = hashes->size();
  Visit(fields, [hashes, begin](Attribute attribute, std::string_view value) {
    const uint64_t hash = TermHash(attribute, value);
    const bool may_repeat = attribute == Attribute::kResourceName || attribute == Attribute::kResourceType || attribute == Attribute::kPrincipal;
    if (may_repeat && std::find(hashes->begin() + static_cast<ptrdiff_t>(begin), hashes->end(), hash) != hashes->end()) return;
    hashes->push_back(hash);
    if (attribute == Attribute::kSourceIp && (hash & kAddressBit) == 0) {
      if (const std::optional<IpBytes> ip = ParseIp(value)) hashes->push_back(AddressTerm(*ip));
    }
  });
}

}  // namespace orgtrail
