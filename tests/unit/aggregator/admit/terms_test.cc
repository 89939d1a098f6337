#include "aggregator/admit/terms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "aggregator/admit/address_term.h"

namespace orgtrail {
namespace {

using testing::UnorderedElementsAre;

std::vector<std::string> TermsAsText(std::string_view record) {
  json::Scanner scanner;
  json::Fields fields;
  EXPECT_EQ(scanner.Scan(record, &fields), json::Flaw::kNone) << record << " at " << scanner.offset();
  std::vector<std::string> out;
  std::multiset<uint64_t> expected;
  for (const Term& t : TermsOf(fields)) {
    out.push_back(std::string(AttributeName(t.attribute)) + "=" + t.value);
    expected.insert(TermHash(t.attribute, t.value));
    if (t.attribute == Attribute::kSourceIp && t.value.find(':') != std::string::npos) {
      if (const std::optional<IpBytes> ip = ParseIp(t.value)) expected.insert(AddressTerm(*ip));
    }
  }
  std::vector<uint64_t> hashes = {42};
  AppendTermHashes(fields, &hashes);
  EXPECT_EQ(hashes[0], 42u) << "hashes are appended";
  EXPECT_EQ(std::multiset<uint64_t>(hashes.begin() + 1, hashes.end()), expected) << "both say the same";
  return out;
}

TEST(Terms, OfAnAssumedRole) {
  EXPECT_THAT(
      TermsAsText(
          R"({"eventVersion":"1.08","userIdentity":{"type":"AssumedRole","principalId":"AROAEXAMPLE:alice@example.org","arn":"arn:aws:sts::111111111111:assumed-role/Admin/alice@example.org","accountId":"111111111111","accessKeyId":"ASIAEXAMPLE","sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROAEXAMPLE","arn":"arn:aws:iam::111111111111:role/Admin","accountId":"111111111111","userName":"Admin"}}},"eventTime":"2026-11-20T09:01:44Z","eventSource":"s3.amazonaws.com","eventName":"PutBucketPolicy","awsRegion":"eu-west-1","sourceIPAddress":"192.0.2.7","errorCode":"AccessDenied","requestParameters":{"bucketName":"b-1","Host":"b-1.s3.amazonaws.com"},"responseElements":null,"eventID":"e-1","readOnly":false,"resources":[{"accountId":"1","type":"AWS::S3::Bucket","ARN":"arn:aws:s3:::b-1"}],"recipientAccountId":"111111111111"})"),
      UnorderedElementsAre("EventId=e-1", "EventName=PutBucketPolicy", "EventSource=s3.amazonaws.com", "ReadOnly=false", "Username=alice@example.org",
                           "Principal=arn:aws:sts::111111111111:assumed-role/Admin/alice@example.org", "Principal=AROAEXAMPLE:alice@example.org",
                           "Principal=arn:aws:iam::111111111111:role/Admin", "AccessKeyId=ASIAEXAMPLE", "SourceIp=192.0.2.7", "ErrorCode=AccessDenied",
                           "HasError=true", "ResourceType=AWS::S3::Bucket", "ResourceName=arn:aws:s3:::b-1", "ResourceName=b-1"));
}

TEST(Terms, Username) {
  const std::pair<const char*, std::string> table[] = {
      {R"({"type":"IAMUser","userName":"bob"})", "bob"},
      {R"({"type":"Root","userName":"alias"})", "root"},
      {R"({"type":"Root"})", "root"},
      {R"({"type":"AssumedRole","principalId":"AROA:session"})", "session"},
      {R"({"type":"AssumedRole","principalId":"AROA","arn":"arn:aws:sts::1:assumed-role/R/from-arn"})", "from-arn"},
      {R"({"type":"AssumedRole","principalId":"AROA:"})", ""},
      {R"({"type":"AssumedRole"})", ""},
      {R"({"type":"FederatedUser","principalId":"111111111111:Carol"})", "Carol"},
      {R"({"type":"SAMLUser","userName":"dave"})", "dave"},
      {R"({"type":"WebIdentityUser","userName":"caf\u00e9"})", "caf\xC3\xA9"},
      {R"({"type":"AWSService","invokedBy":"ec2.amazonaws.com"})", ""},
      {R"({"type":"AWSAccount","principalId":"AIDA","accountId":"1"})", ""},
      {R"({"type":7,"userName":null})", ""},
      {"null", ""},
  };
  for (const auto& [identity, expected] : table) {
    std::string found;
    for (const std::string& t : TermsAsText(std::string("{\"userIdentity\":") + identity + "}")) {
      if (t.starts_with("Username=")) found = t.substr(9);
    }
    EXPECT_EQ(found, expected) << identity;
  }
}

TEST(Terms, ReadOnly) {
  const std::pair<const char*, std::string> table[] = {
      {R"("eventName":"GetObject")", "true"}, {R"("eventName":"ListUsers")", "true"}, {R"("eventName":"DescribeInstances")", "true"},
      {R"("eventName":"HeadBucket")", "true"}, {R"("eventName":"LookupEvents")", "true"}, {R"("eventName":"BatchGetItem")", "true"}, {R"("eventName":"Query")", "true"},
      {R"("eventName":"Scan")", "true"}, {R"("eventName":"SearchResources")", "true"}, {R"("eventName":"PutObject")", "false"}, {R"("eventName":"Listen")", "false"},
      {R"("eventName":"Getaway")", "false"}, {R"("eventName":"BatchWriteItem")", "false"}, {R"("eventName":"Get")", "true"}, {R"("eventName":"DeleteList")", "false"},
      {R"("eventName":"PutObject","readOnly":true)", "true"}, {R"("eventName":"GetObject","readOnly":false)", "false"}, {R"("eventName":"GetObject","readOnly":"false")", "false"},
      {R"("eventName":"X","readOnly":"true")", "true"}, {R"("eventName":"GetObject","readOnly":null)", "true"}, {R"("a":1)", ""}, {R"("eventName":5)", ""},
  };
  for (const auto& [members, expected] : table) {
    std::string found;
    for (const std::string& t : TermsAsText(std::string("{") + members + "}")) {
      if (t.starts_with("ReadOnly=")) found = t.substr(9);
    }
    EXPECT_EQ(found, expected) << members;
  }
}

TEST(Terms, Resources) {
  struct {
    const char* source;
    const char* request;
    const char* response;
    std::vector<std::string> expected;
  } table[] = {
      {"ec2.amazonaws.com", R"({"instancesSet":{"items":[{"instanceId":"i-1"},{"instanceId":"i-2"}]}})", R"({"instancesSet":{"items":[{"instanceId":"i-1"}]}})",
       {"ResourceType=AWS::EC2::Instance", "ResourceName=i-1", "ResourceName=i-2"}},
      {"ssm.amazonaws.com", R"({"instanceIds":["i-1","i-2"]})", "null", {"ResourceType=AWS::EC2::Instance", "ResourceName=i-1", "ResourceName=i-2"}},
      {"iam.amazonaws.com", R"({"userName":"bob"})", R"({"accessKey":{"accessKeyId":"AKIA1","userName":"bob","status":"Active"}})",
       {"ResourceType=AWS::IAM::User", "ResourceName=bob", "ResourceType=AWS::IAM::AccessKey", "ResourceName=AKIA1"}},
      {"transfer.amazonaws.com", R"({"userName":"bob"})", "null", {"ResourceName=bob"}},
      {"iam.amazonaws.com", R"({"roleName":"r","policyArn":"arn:aws:iam::aws:policy/P"})", "null",
       {"ResourceType=AWS::IAM::Role", "ResourceName=r", "ResourceType=AWS::IAM::Policy", "ResourceName=arn:aws:iam::aws:policy/P"}},
      {"lambda.amazonaws.com", R"({"functionName":"f"})", R"({"functionArn":"arn:f"})", {"ResourceType=AWS::Lambda::Function", "ResourceName=f", "ResourceName=arn:f"}},
      {"kms.amazonaws.com", R"({"keyId":"k"})", "null", {"ResourceType=AWS::KMS::Key", "ResourceName=k"}},
      {"ec2.amazonaws.com", R"({"groupId":"sg-1"})", "null", {"ResourceType=AWS::EC2::SecurityGroup", "ResourceName=sg-1"}},
      {"cloudtrail.amazonaws.com", R"({"name":"org-trail"})", R"({"trailARN":"arn:t"})", {"ResourceType=AWS::CloudTrail::Trail", "ResourceName=org-trail", "ResourceName=arn:t"}},
      {"other.amazonaws.com", R"({"name":"x","nested":{"someArn":"no"}})", "null", {}},
      {"dynamodb.amazonaws.com", R"({"tableName":"t"})", "null", {"ResourceType=AWS::DynamoDB::Table", "ResourceName=t"}},
      {"rds.amazonaws.com", R"({"dBInstanceIdentifier":"db"})", "null", {"ResourceType=AWS::RDS::DBInstance", "ResourceName=db"}},
      {"secretsmanager.amazonaws.com", R"({"secretId":"s"})", R"({"aRN":"arn:s"})", {"ResourceType=AWS::SecretsManager::Secret", "ResourceName=s", "ResourceName=arn:s"}},
      {"sns.amazonaws.com", R"({"topicArn":"arn:topic"})", "null", {"ResourceType=AWS::SNS::Topic", "ResourceName=arn:topic"}},
      {"sqs.amazonaws.com", R"({"queueUrl":"https://q"})", "null", {"ResourceType=AWS::SQS::Queue", "ResourceName=https://q"}},
      {"s3.amazonaws.com", R"({"bucketName":7})", R"({"bucketName":""})", {}},
      {"s3.amazonaws.com", "\"text\"", "[1,2]", {}},
  };
  for (const auto& t : table) {
    std::vector<std::string> found;
    for (const std::string& term : TermsAsText(std::string(R"({"eventSource":")") + t.source + R"(","requestParameters":)" + t.request + ",\"responseElements\":" + t.response + "}")) {
      if (term.starts_with("Resource")) found.push_back(term);
    }
    EXPECT_THAT(found, testing::UnorderedElementsAreArray(t.expected)) << t.request;
  }
}

TEST(Terms, SourceIpHasOneSpelling) {
  const std::pair<const char*, const char*> table[] = {
      {"192.0.2.1", "192.0.2.1"}, {"2001:DB8:0:0:0:0:0:1", "2001:db8::1"}, {"2001:db8::1", "2001:db8::1"}, {"::FFFF:192.0.2.1", "192.0.2.1"},
      {"AWS Internal", "AWS Internal"}, {"ec2.amazonaws.com", "ec2.amazonaws.com"}, {"::g", "::g"}, {"1:2", "1:2"},
      {"a-name-of-more-than-forty-six-characters.example.amazonaws.com", "a-name-of-more-than-forty-six-characters.example.amazonaws.com"},
  };
  for (const auto& [text, expected] : table) {
    EXPECT_THAT(TermsAsText(std::string(R"({"sourceIPAddress":")") + text + "\"}"), UnorderedElementsAre(std::string("SourceIp=") + expected));
  }
}

TEST(Terms, AddressesKeepTheirOrder) {
  const std::vector<const char*> ascending = {"0.0.0.0", "0.0.0.1", "9.255.255.255", "10.0.0.0", "10.0.1.0", "172.16.0.1", "255.255.255.255",
                                              "::1", "2001:db8::", "2001:db8:0:8::", "2001:db9::", "fe80::1", "ffff:ffff:ffff:ffff::"};
  for (size_t i = 0; i < ascending.size(); ++i) {
    const uint64_t term = AddressTerm(*ParseIp(ascending[i]));
    EXPECT_NE(term & kAddressBit, 0u);
    if (i > 0) {
      EXPECT_LT(AddressTerm(*ParseIp(ascending[i - 1])), term) << ascending[i];
    }
  }
  EXPECT_EQ(AddressTerm(*ParseIp("::ffff:10.0.0.0")), AddressTerm(*ParseIp("10.0.0.0")));
  // Looked for exactly: an IPv4 address by its own term, an IPv6 address by its hash, since many share a term.
  EXPECT_EQ(TermHash(Attribute::kSourceIp, "10.0.0.0"), AddressTerm(*ParseIp("10.0.0.0")));
  EXPECT_EQ(TermHash(Attribute::kSourceIp, "2001:db8::1") & kAddressBit, 0u);
  EXPECT_EQ(TermHash(Attribute::kSourceIp, "10.0.0.256") & kAddressBit, 0u);
  EXPECT_EQ(TermHash(Attribute::kUsername, "10.0.0.0") & kAddressBit, 0u);
}

TEST(Terms, ARangeOfAddressesIsARangeOfTerms) {
  const char* const addresses[] = {"0.0.0.0", "9.255.255.255", "10.0.0.0", "10.0.0.7", "10.0.0.8", "10.255.255.255", "11.0.0.0", "255.255.255.255",
                                   "::", "::1", "2001:db7:ffff::", "2001:db8::", "2001:db8:0:4::9", "2001:db8:ffff:ffff::", "2001:db9::", "ffff::"};
  for (const char* text : {"10.0.0.0/8", "10.0.0.0/29", "10.0.0.7/32", "0.0.0.0/0", "128.0.0.0/1", "2001:db8::/32", "2001:db8::/62", "::/0", "::ffff:0:0/96"}) {
    const Cidr range = *ParseCidr(text);
    const TermRange terms = AddressTerms(range);
    for (const char* address : addresses) {
      const uint64_t term = AddressTerm(*ParseIp(address));
      EXPECT_EQ(terms.first <= term && term <= terms.last, range.Contains(address)) << text << " " << address;
    }
  }
  // Beyond 62 bits the terms of neighbours cannot be told apart.
  const TermRange narrow = AddressTerms(*ParseCidr("2001:db8::1/128"));
  EXPECT_EQ(narrow.first, narrow.last);
  EXPECT_EQ(narrow.first, AddressTerm(*ParseIp("2001:db8:0:3::")));
}

TEST(Terms, OddRecords) {
  EXPECT_TRUE(TermsAsText("{}").empty());
  EXPECT_TRUE(TermsAsText(R"({"eventID":null,"eventName":[],"eventSource":{},"errorCode":null,"sourceIPAddress":{"a":1},"userIdentity":[1],"resources":"x","readOnly":0})").empty());
  EXPECT_THAT(TermsAsText(R"({"eventSource":"orgtrail","eventName":"Loss","errorCode":""})"), UnorderedElementsAre("EventSource=orgtrail", "Own=true", "EventName=Loss", "ReadOnly=false"));
}

TEST(Terms, HashesAreStable) {
  // Written into index runs: these numbers may never change.
  EXPECT_EQ(TermHash(Attribute::kEventName, "PutObject"), TermHash(Attribute::kEventName, std::string("PutObject")));
  EXPECT_NE(TermHash(Attribute::kEventName, "x"), TermHash(Attribute::kEventSource, "x"));
  EXPECT_EQ(TermHash(Attribute::kEventName, std::string(256, 'a')), TermHash(Attribute::kEventName, std::string(300, 'a')));
  EXPECT_NE(TermHash(Attribute::kEventName, std::string(255, 'a')), TermHash(Attribute::kEventName, std::string(256, 'a')));
  EXPECT_EQ(TermHash(Attribute::kEventId, ""), 0x4dc5b0cc826f6703u);
  EXPECT_EQ(TermHash(Attribute::kEventName, "PutObject"), 0x343a9c4e9cb5ee93u);
  EXPECT_EQ(TermHash(Attribute::kAccount, "111111111111"), 0x344e426d0559758du);
}

TEST(Attributes, ParseTheirNames) {
  for (int i = 1; i <= 15; ++i) {
    const auto attribute = static_cast<Attribute>(i);
    EXPECT_FALSE(AttributeName(attribute).empty());
    EXPECT_EQ(ParseAttribute(AttributeName(attribute)), attribute);
  }
  for (const char* name : {"", "eventName", "EVENTNAME", "EventName ", "Nothing"}) EXPECT_FALSE(ParseAttribute(name).has_value());
}

}  // namespace
}  // namespace orgtrail
