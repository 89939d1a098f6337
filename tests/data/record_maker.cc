#include "tests/data/record_maker.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>

#include "common/base/clock.h"

namespace orgtrail::data {
namespace {

// Tokens: <account> <region> <time> <time-N> (N minutes before), <uuid> <id2> <request> (S3's and everybody's request ids),
// <hexN> <numN>, <user> <role> <bucket> <key> <function> <table> <instance> <image> <group> <subnet> <volume> <log> <stream>
// <parameter> <secret> <cmk> <queue> <database> <repository> <cluster> <office> <vpc> <ip> <action> <caller> <session>
// <userid> <roleid> <userkey> <sessionkey>. A name keeps its value within one record.

constexpr std::string_view kUsers[] = {"dana.kim", "ivy.chen", "marek.novak", "sofia.rossi", "tom.okafor", "lena.fischer", "ci-deploy", "backup-operator",
                                       "terraform", "grafana-reader"};
constexpr std::string_view kRoles[] = {"web-frontend", "order-service", "report-runner", "invoice-export", "data-pipeline", "eks-node", "ReadOnlyAudit",
                                       "deploy-pipeline", "backup-restore", "stock-sync", "search-indexer", "PowerUser"};
constexpr std::string_view kApps[] = {"orders", "invoices", "catalogue", "search", "billing", "reports", "stock", "mail", "login", "images", "partners", "audit"};
constexpr std::string_view kStages[] = {"prod", "prod", "prod", "staging", "dev"};
constexpr std::string_view kRepositories[] = {"web/frontend", "orders/api", "reports/runner", "search/indexer", "base/debian"};
constexpr std::string_view kEngines[] = {"postgres-main", "postgres-replica-1", "reporting", "sessions"};
constexpr std::string_view kServices[] = {"ec2", "lambda", "ecs-tasks", "eks", "rds"};
constexpr std::string_view kWords[] = {"order",  "export", "nightly", "retry",   "batch",  "europe", "invoice", "ledger", "monthly", "partner", "stock",
                                       "search", "daily",  "report",  "service", "worker", "import", "archive", "image",  "customer", "basket", "payment"};

constexpr std::string_view kRoleIdentity =
    R"({"type":"AssumedRole","principalId":"AROA<roleid>:<session>","arn":"arn:aws:sts::<account>:assumed-role/<role>/<session>","accountId":"<account>","accessKeyId":"ASIA<sessionkey>","sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROA<roleid>","arn":"arn:aws:iam::<account>:role/<role>","accountId":"<account>","userName":"<role>"},"attributes":{"creationDate":"<time-23>","mfaAuthenticated":"false"}}})";
constexpr std::string_view kInstanceIdentity =
    R"({"type":"AssumedRole","principalId":"AROA<roleid>:<instance>","arn":"arn:aws:sts::<account>:assumed-role/<role>/<instance>","accountId":"<account>","accessKeyId":"ASIA<sessionkey>","sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROA<roleid>","arn":"arn:aws:iam::<account>:role/<role>","accountId":"<account>","userName":"<role>"},"attributes":{"creationDate":"<time-47>","mfaAuthenticated":"false"},"ec2RoleDelivery":"2.0"}})";
constexpr std::string_view kUserIdentity =
    R"({"type":"IAMUser","principalId":"AIDA<userid>","arn":"arn:aws:iam::<account>:user/<user>","accountId":"<account>","accessKeyId":"AKIA<userkey>","userName":"<user>"})";
constexpr std::string_view kConsoleIdentity =
    R"({"type":"IAMUser","principalId":"AIDA<userid>","arn":"arn:aws:iam::<account>:user/<user>","accountId":"<account>","accessKeyId":"ASIA<sessionkey>","userName":"<user>","sessionContext":{"attributes":{"creationDate":"<time-12>","mfaAuthenticated":"true"}}})";

constexpr Caller kCallers[] = {
    {360, kInstanceIdentity, "10.<num2>.<num2>.<num2>", "Boto3/1.34.131 md/Botocore#1.34.131 ua/2.0 os/linux#6.1.0-23-cloud-amd64 md/arch#x86_64 lang/python#3.11.2 md/pyimpl#CPython Botocore/1.34.131"},
    {250, kRoleIdentity, "10.<num2>.<num2>.<num2>", "aws-sdk-java/2.25.60 Linux/6.1.94-99.176.amzn2023.x86_64 OpenJDK_64-Bit_Server_VM/21.0.3 Java/21.0.3 exec-env/AWS_ECS_FARGATE io/async http/NettyNio"},
    {90, kRoleIdentity, "<office>", "APN/1.0 HashiCorp/1.0 Terraform/1.8.5 (+https://www.terraform.io) terraform-provider-aws/5.54.1 aws-sdk-go-v2/1.30.0 os/linux lang/go#1.22.4"},
    {120, kUserIdentity, "<office>", "aws-cli/2.16.12 md/awscrt#0.20.11 ua/2.0 os/linux#6.1.0-21-amd64 md/arch#x86_64 lang/python#3.11.8 md/pyimpl#CPython cfg/retry-mode#standard md/installer#exe md/prompt#off"},
    {70, kConsoleIdentity, "<office>", "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"},
    {108, R"({"type":"AWSService","invokedBy":"<service>.amazonaws.com"})", "<service>.amazonaws.com", "<service>.amazonaws.com"},
    {2, R"({"type":"Root","principalId":"<account>","arn":"arn:aws:iam::<account>:root","accountId":"<account>","accessKeyId":""})", "<office>", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15"},
};

constexpr std::string_view kS3Additional =
    R"("SignatureVersion":"SigV4","CipherSuite":"TLS_AES_128_GCM_SHA256","bytesTransferredIn":0,"AuthenticationMethod":"AuthHeader","x-amz-id-2":"<id2>","bytesTransferredOut":<num5>)";
constexpr std::string_view kObject = R"([{"type":"AWS::S3::Object","ARN":"arn:aws:s3:::<bucket>/<key>"},{"accountId":"<account>","type":"AWS::S3::Bucket","ARN":"arn:aws:s3:::<bucket>"}])";
constexpr std::string_view kBucket = R"([{"accountId":"<account>","type":"AWS::S3::Bucket","ARN":"arn:aws:s3:::<bucket>"}])";
constexpr std::string_view kCmk = R"([{"accountId":"<account>","type":"AWS::KMS::Key","ARN":"arn:aws:kms:<region>:<account>:key/<cmk>"}])";

constexpr Call kCalls[] = {
    {140, "s3.amazonaws.com", "GetObject", true, R"({"bucketName":"<bucket>","Host":"<bucket>.s3.<region>.amazonaws.com","key":"<key>"})", "null", kS3Additional, kObject, "Data"},
    {60, "s3.amazonaws.com", "PutObject", false, R"({"bucketName":"<bucket>","Host":"<bucket>.s3.<region>.amazonaws.com","key":"<key>","x-amz-server-side-encryption":"aws:kms"})",
     R"({"x-amz-server-side-encryption":"aws:kms","x-amz-server-side-encryption-aws-kms-key-id":"arn:aws:kms:<region>:<account>:key/<cmk>"})", kS3Additional, kObject, "Data"},
    {70, "kms.amazonaws.com", "Decrypt", true, R"({"encryptionContext":{"aws:s3:arn":"arn:aws:s3:::<bucket>"},"encryptionAlgorithm":"SYMMETRIC_DEFAULT"})", "null", "", kCmk},
    {35, "kms.amazonaws.com", "GenerateDataKey", true, R"({"keyId":"arn:aws:kms:<region>:<account>:key/<cmk>","encryptionContext":{"aws:s3:arn":"arn:aws:s3:::<bucket>"},"keySpec":"AES_256"})", "null", "", kCmk},
    {80, "sts.amazonaws.com", "AssumeRole", true, R"({"roleArn":"arn:aws:iam::<account>:role/<role>","roleSessionName":"<session>","durationSeconds":3600})",
     R"({"credentials":{"accessKeyId":"ASIA<sessionkey>","sessionToken":"<id2><id2>","expiration":"<time+60>"},"assumedRoleUser":{"assumedRoleId":"AROA<roleid>:<session>","arn":"arn:aws:sts::<account>:assumed-role/<role>/<session>"}})", "",
     R"([{"accountId":"<account>","type":"AWS::IAM::Role","ARN":"arn:aws:iam::<account>:role/<role>"}])"},
    {40, "sts.amazonaws.com", "GetCallerIdentity", true, "null", "null"},
    {60, "ec2.amazonaws.com", "DescribeInstances", true, R"({"maxResults":100,"instancesSet":{},"filterSet":{"items":[{"name":"tag:app","valueSet":{"items":[{"value":"<app>"}]}},{"name":"instance-state-name","valueSet":{"items":[{"value":"running"}]}}]}})"},
    {30, "ec2.amazonaws.com", "DescribeRouteTables", true, R"({"routeTableIdSet":{},"filterSet":{"items":[{"name":"vpc-id","valueSet":{"items":[{"value":"<vpc>"}]}}]}})"},
    {25, "ec2.amazonaws.com", "DescribeSecurityGroups", true, R"({"securityGroupSet":{},"securityGroupIdSet":{"items":[{"groupId":"<group>"}]},"filterSet":{}})"},
    {12, "ec2.amazonaws.com", "CreateTags", false, R"({"resourcesSet":{"items":[{"resourceId":"<instance>"}]},"tagSet":{"items":[{"key":"app","value":"<app>"},{"key":"stage","value":"<stage>"},{"key":"owner","value":"<user>"}]}})", R"({"requestId":"<uuid>","_return":true})"},
    {6, "ec2.amazonaws.com", "RunInstances", false,
     R"({"instancesSet":{"items":[{"imageId":"<image>","minCount":1,"maxCount":1}]},"instanceType":"m6i.large","blockDeviceMapping":{},"subnetId":"<subnet>","monitoring":{"enabled":false},"disableApiTermination":false,"iamInstanceProfile":{"name":"<role>"},"ebsOptimized":true,"tagSpecificationSet":{"items":[{"resourceType":"instance","tags":[{"key":"app","value":"<app>"},{"key":"stage","value":"<stage>"}]}]}})",
     R"({"requestId":"<uuid>","reservationId":"r-0<hex16>","ownerId":"<account>","groupSet":{},"instancesSet":{"items":[{"instanceId":"<instance>","imageId":"<image>","instanceState":{"code":0,"name":"pending"},"privateDnsName":"ip-10-<num2>-<num2>-<num2>.<region>.compute.internal","amiLaunchIndex":0,"productCodes":{},"instanceType":"m6i.large","launchTime":1753000000000,"placement":{"availabilityZone":"<region>a","tenancy":"default"},"monitoring":{"state":"disabled"},"subnetId":"<subnet>","vpcId":"<vpc>","architecture":"x86_64","rootDeviceType":"ebs","virtualizationType":"hvm","hypervisor":"xen","ebsOptimized":true}]}})"},
    {5, "ec2.amazonaws.com", "TerminateInstances", false, R"({"instancesSet":{"items":[{"instanceId":"<instance>"}]}})",
     R"({"requestId":"<uuid>","instancesSet":{"items":[{"instanceId":"<instance>","currentState":{"code":32,"name":"shutting-down"},"previousState":{"code":16,"name":"running"}}]}})"},
    {4, "ec2.amazonaws.com", "AuthorizeSecurityGroupIngress", false, R"({"groupId":"<group>","ipPermissions":{"items":[{"ipProtocol":"tcp","fromPort":443,"toPort":443,"groups":{},"ipRanges":{"items":[{"cidrIp":"<office>/32","description":"office"}]},"ipv6Ranges":{},"prefixListIds":{}}]}})", R"({"requestId":"<uuid>","_return":true})"},
    {8, "ec2.amazonaws.com", "CreateSnapshot", false, R"({"volumeId":"<volume>","description":"nightly <app>"})", R"({"requestId":"<uuid>","snapshotId":"snap-0<hex16>","volumeId":"<volume>","status":"pending","startTime":1753000000000,"progress":"","ownerId":"<account>","volumeSize":"200","description":"nightly <app>","encrypted":true})"},
    {60, "dynamodb.amazonaws.com", "GetItem", true, R"({"tableName":"<table>","key":{"id":"<uuid>"},"consistentRead":false})", "null", "", R"([{"accountId":"<account>","type":"AWS::DynamoDB::Table","ARN":"arn:aws:dynamodb:<region>:<account>:table/<table>"}])", "Data"},
    {55, "lambda.amazonaws.com", "Invoke", false, R"({"functionName":"arn:aws:lambda:<region>:<account>:function:<function>","invocationType":"RequestResponse"})", "null", R"("functionVersion":"arn:aws:lambda:<region>:<account>:function:<function>:$LATEST")",
     R"([{"accountId":"<account>","type":"AWS::Lambda::Function","ARN":"arn:aws:lambda:<region>:<account>:function:<function>"}])", "Data"},
    {14, "lambda.amazonaws.com", "GetFunction20150331v2", true, R"({"functionName":"<function>"})"},
    {6, "lambda.amazonaws.com", "UpdateFunctionCode20150331v2", false, R"({"functionName":"<function>","s3Bucket":"<bucket>","s3Key":"releases/<hex8>.zip","dryRun":false,"publish":true})",
     R"({"functionName":"<function>","functionArn":"arn:aws:lambda:<region>:<account>:function:<function>","runtime":"python3.11","role":"arn:aws:iam::<account>:role/<role>","handler":"app.handler","codeSize":<num5>,"timeout":30,"memorySize":256,"lastModified":"<time>","codeSha256":"<id2>","version":"<num2>","state":"Active"})"},
    {35, "ssm.amazonaws.com", "GetParameter", true, R"({"name":"<parameter>","withDecryption":true})", "null", "", R"([{"accountId":"<account>","ARN":"arn:aws:ssm:<region>:<account>:parameter<parameter>"}])"},
    {8, "ssm.amazonaws.com", "PutParameter", false, R"({"name":"<parameter>","description":"set by <user>","value":"HIDDEN_DUE_TO_SECURITY_REASONS","type":"SecureString","keyId":"alias/aws/ssm","overwrite":true})", R"({"version":<num2>,"tier":"Standard"})"},
    {45, "secretsmanager.amazonaws.com", "GetSecretValue", true, R"({"secretId":"arn:aws:secretsmanager:<region>:<account>:secret:<secret>"})"},
    {40, "logs.amazonaws.com", "CreateLogStream", false, R"({"logGroupName":"<log>","logStreamName":"<stream>"})"},
    {20, "logs.amazonaws.com", "DescribeLogGroups", true, R"({"logGroupNamePrefix":"<log>","limit":50})"},
    {25, "s3.amazonaws.com", "GetBucketAcl", true, R"({"bucketName":"<bucket>","Host":"<bucket>.s3.<region>.amazonaws.com","acl":""})", "null", kS3Additional, kBucket},
    {14, "s3.amazonaws.com", "GetBucketPolicy", true, R"({"bucketName":"<bucket>","Host":"<bucket>.s3.<region>.amazonaws.com","policy":""})", "null", kS3Additional, kBucket},
    {12, "s3.amazonaws.com", "ListBuckets", true, R"({"Host":"s3.<region>.amazonaws.com"})", "null", kS3Additional},
    {24, "iam.amazonaws.com", "GetUser", true, R"({"userName":"<user>"})", "null", "", "", "Management", "AwsApiCall", true},
    {16, "iam.amazonaws.com", "ListAttachedRolePolicies", true, R"({"roleName":"<role>"})", "null", "", "", "Management", "AwsApiCall", true},
    {10, "iam.amazonaws.com", "GetRole", true, R"({"roleName":"<role>"})", "null", "", "", "Management", "AwsApiCall", true},
    {18, "rds.amazonaws.com", "DescribeDBInstances", true, R"({"dBInstanceIdentifier":"<database>"})"},
    {14, "ecr.amazonaws.com", "GetDownloadUrlForLayer", true, R"({"registryId":"<account>","repositoryName":"<repository>","layerDigest":"sha256:<hex32><hex32>"})"},
    {6, "ecr.amazonaws.com", "PutImage", false, R"({"registryId":"<account>","repositoryName":"<repository>","imageTag":"<hex8>","imageManifestMediaType":"application/vnd.docker.distribution.manifest.v2+json"})",
     R"({"image":{"registryId":"<account>","repositoryName":"<repository>","imageId":{"imageDigest":"sha256:<hex32><hex32>","imageTag":"<hex8>"}}})", "", R"([{"accountId":"<account>","ARN":"arn:aws:ecr:<region>:<account>:repository/<repository>"}])"},
    {16, "sqs.amazonaws.com", "GetQueueAttributes", true, R"({"queueUrl":"https://sqs.<region>.amazonaws.com/<account>/<queue>","attributeNames":["ApproximateNumberOfMessages"]})"},
    {12, "monitoring.amazonaws.com", "DescribeAlarms", true, R"({"alarmNamePrefix":"<app>-","maxRecords":100})"},
    {5, "monitoring.amazonaws.com", "PutMetricAlarm", false, R"({"alarmName":"<app>-5xx","alarmDescription":"errors of <app>","namespace":"AWS/ApplicationELB","metricName":"HTTPCode_Target_5XX_Count","statistic":"Sum","period":60,"evaluationPeriods":3,"threshold":10.0,"comparisonOperator":"GreaterThanThreshold","actionsEnabled":true})"},
    {10, "eks.amazonaws.com", "DescribeCluster", true, R"({"name":"<cluster>"})"},
    {9, "elasticloadbalancing.amazonaws.com", "DescribeTargetHealth", true, R"({"targetGroupArn":"arn:aws:elasticloadbalancing:<region>:<account>:targetgroup/<app>/<hex16>"})"},
    {6, "ecs.amazonaws.com", "UpdateService", false, R"({"cluster":"<cluster>","service":"<app>","taskDefinition":"<app>:<num2>","desiredCount":3,"forceNewDeployment":true})",
     R"({"service":{"serviceArn":"arn:aws:ecs:<region>:<account>:service/<cluster>/<app>","serviceName":"<app>","clusterArn":"arn:aws:ecs:<region>:<account>:cluster/<cluster>","status":"ACTIVE","desiredCount":3,"runningCount":3,"pendingCount":0,"launchType":"FARGATE","taskDefinition":"arn:aws:ecs:<region>:<account>:task-definition/<app>:<num2>"}})"},
    {4, "kms.amazonaws.com", "RotateKey", false, "null", "null", "", kCmk, "Management", "AwsServiceEvent"},
    {6, "signin.amazonaws.com", "ConsoleLogin", false, "null", R"({"ConsoleLogin":"Success"})",
     R"("LoginTo":"https://console.aws.amazon.com/console/home?region=<region>","MobileVersion":"No","MFAIdentifier":"arn:aws:iam::<account>:mfa/<user>","MFAUsed":"Yes")", "", "Management", "AwsConsoleSignIn"},
    {5, "cloudtrail.amazonaws.com", "LookupEvents", true, R"({"maxResults":50,"lookupAttributes":[{"attributeKey":"EventName","attributeValue":"ConsoleLogin"}]})"},
};

template <class List>
int TotalWeight(const List& list) {
  int total = 0;
  for (const auto& item : list) total += item.weight;
  return total;
}

template <class List>
const auto& Weighted(const List& list, Seeded& rng) {
  static const int total = TotalWeight(list);
  int at = static_cast<int>(rng.Below(static_cast<uint64_t>(total)));
  for (const auto& item : list) {
    if ((at -= item.weight) < 0) return item;
  }
  return list[0];
}

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

uint64_t HashOf(std::string_view text) {  // FNV-1a
  uint64_t h = 0xcbf29ce484222325;
  for (char c : text) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return h;
}

void Hex(uint64_t value, int digits, std::string* out) {
  for (int i = 0; i < digits; ++i, value = i % 16 == 0 ? Mix(value + 1) : value >> 4) out->push_back("0123456789abcdef"[value & 15]);
}

constexpr std::string_view kUpper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
constexpr std::string_view kBase64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// A key or principal id belongs to its owner: the same person has the same one in every record.
void OwnId(uint64_t owner, std::string* out) {
  for (int i = 0; i < 16; ++i) {
    owner = Mix(owner + 0x9e3779b97f4a7c15);
    out->push_back(kUpper[owner % kUpper.size()]);
  }
}

}  // namespace

uint64_t Seeded::Next() { return Mix(state_ += 0x9e3779b97f4a7c15); }

RecordMaker::RecordMaker(uint64_t seed, size_t size_bytes) : rng_(seed), size_bytes_(size_bytes) {}

uint64_t RecordMaker::Pick(std::string_view token) { return Mix(record_ ^ HashOf(token)); }

void RecordMaker::Random(std::string_view alphabet, size_t n, std::string* out) {
  for (size_t i = 0; i < n; ++i) out->push_back(alphabet[rng_.Below(alphabet.size())]);
}

void RecordMaker::Expand(std::string_view text, std::string* out) {
  for (;;) {
    const size_t open = text.find('<');
    out->append(text.substr(0, open));
    if (open == std::string_view::npos) return;
    const size_t close = text.find('>', open);
    Token(text.substr(open + 1, close - open - 1), out);
    text.remove_prefix(close + 1);
  }
}

void RecordMaker::Token(std::string_view token, std::string* out) {
  const auto from = [&](const auto& list) -> std::string_view {
    const uint64_t r = Pick(token), n = std::size(list);
    return list[std::min(r % n, (r >> 32) % n)];  // the first names are seen most
  };
  const auto number_after = [&](size_t prefix) { return std::stoi(std::string(token.substr(prefix))); };
  const auto owner = [&](std::string_view kind) {
    std::string name;
    Token(kind, &name);
    return HashOf(place_->account + name);
  };
  if (token == "account") {
    *out += place_->account;
  } else if (token == "region") {
    *out += call_->global ? "us-east-1" : place_->region;
  } else if (token.starts_with("time")) {
    const int minutes = token.size() > 4 ? number_after(5) : 0;
    *out += Rfc3339(token.size() > 4 && token[4] == '-' ? when_ - absl::Minutes(minutes) : when_ + absl::Minutes(minutes));
  } else if (token == "uuid") {
    const uint64_t a = rng_.Next(), b = rng_.Next();
    char text[40];
    std::snprintf(text, sizeof text, "%08x-%04x-4%03x-%04x-%012llx", static_cast<unsigned>(a >> 32), static_cast<unsigned>(a >> 16) & 0xffff,
                  static_cast<unsigned>(a) & 0xfff, static_cast<unsigned>((b >> 48 & 0x3fff) | 0x8000), static_cast<unsigned long long>(b & 0xffffffffffff));
    *out += text;
  } else if (token == "id2") {
    Random(kBase64, 75, out);
    out->push_back('=');
  } else if (token == "request") {
    if (call_->source.starts_with("s3.")) {
      Random(kUpper, 16, out);
    } else {
      Token("uuid", out);
    }
  } else if (token.starts_with("hex")) {
    Hex(rng_.Next(), number_after(3), out);
  } else if (token.starts_with("num")) {
    uint64_t limit = 1;
    for (int i = number_after(3); i > 0; --i) limit *= 10;
    *out += std::to_string(rng_.Below(limit));
  } else if (token == "user") {
    *out += from(kUsers);
  } else if (token == "role") {
    *out += from(kRoles);
  } else if (token == "app") {
    *out += from(kApps);
  } else if (token == "stage") {
    *out += from(kStages);
  } else if (token == "service") {
    *out += from(kServices);
  } else if (token == "repository") {
    *out += from(kRepositories);
  } else if (token == "database") {
    *out += from(kEngines);
  } else if (token == "bucket") {
    Expand("acme-<app>-<stage>-", out);
    *out += place_->region;
  } else if (token == "key") {
    Expand("<app>/2026/11/", out);
    Hex(Pick(token), 12, out);
    *out += (record_ & 3) ? ".json.gz" : ".parquet";
  } else if (token == "function") {
    Expand("<app>-<stage>", out);
  } else if (token == "table" || token == "queue") {
    Expand("<stage>-<app>", out);
  } else if (token == "cluster") {
    Expand("<stage>-apps", out);
  } else if (token == "log") {
    Expand("/aws/lambda/<app>-<stage>", out);
  } else if (token == "stream") {
    Expand("2026/11/21/[$LATEST]<hex32>", out);
  } else if (token == "parameter") {
    Expand("/<stage>/<app>/database-url", out);
  } else if (token == "secret") {
    Expand("<stage>/<app>-a1B2c3", out);
  } else if (token == "session") {
    Expand((record_ & 1) ? "<app>-worker-" : "botocore-session-17530", out);
    *out += std::to_string(Pick(token) % 100'000);
  } else if (token == "office") {
    *out += "198.51.100." + std::to_string(8 + Pick(token) % 6);
  } else if (token == "instance" || token == "image" || token == "group" || token == "subnet" || token == "volume" || token == "vpc") {
    *out += token == "instance" ? "i-0" : token == "image" ? "ami-0" : token == "group" ? "sg-0" : token == "subnet" ? "subnet-0" : token == "volume" ? "vol-0" : "vpc-0";
    Hex(Mix(HashOf(place_->account) + HashOf(token) + Pick(token) % (token == "instance" ? 400 : 12)), 16, out);
  } else if (token == "cmk") {
    const uint64_t key = Mix(HashOf(place_->account) + Pick(token) % 5);
    char text[40];
    std::snprintf(text, sizeof text, "%08x-%04x-4%03x-9%03x-%012llx", static_cast<unsigned>(key >> 32), static_cast<unsigned>(key >> 16) & 0xffff,
                  static_cast<unsigned>(key) & 0xfff, static_cast<unsigned>(key >> 20) & 0xfff, static_cast<unsigned long long>(Mix(key) & 0xffffffffffff));
    *out += text;
  } else if (token == "userid" || token == "userkey") {
    OwnId(owner("user") + HashOf(token), out);
  } else if (token == "roleid") {
    OwnId(owner("role") + HashOf(token), out);
  } else if (token == "sessionkey") {
    OwnId(owner("role") + HashOf(token) + Pick("session") % 50, out);
  } else if (token == "action") {
    *out += call_->source.substr(0, call_->source.find('.'));
    *out += ':';
    *out += call_->name.substr(0, call_->name.find("2015"));
  } else if (token == "caller") {
    const size_t arn = identity_.find("\"arn\":\"");
    *out += arn == std::string::npos ? place_->account : identity_.substr(arn + 7, identity_.find('"', arn + 7) - arn - 7);
  } else {
    std::fprintf(stderr, "orgtrail-generate: no token <%s>\n", std::string(token).c_str());
    std::abort();
  }
}

void RecordMaker::Pad(size_t have, std::string* out) {
  constexpr size_t kAround = 10;  // "note":"" and a comma
  if (have + kAround >= size_bytes_) return;
  *out += out->empty() ? "\"note\":\"" : ",\"note\":\"";
  const size_t target = out->size() + size_bytes_ - have - kAround;
  while (out->size() < target) {
    out->append(kWords[rng_.Below(std::size(kWords))]);
    out->push_back(' ');
  }
  out->resize(target);
  out->push_back('"');
}

std::string RecordMaker::Make(const Call& call, const Caller& caller, const Place& place, absl::Time when) {
  record_ = rng_.Next();
  place_ = &place;
  call_ = &call;
  when_ = when;
  identity_.clear();
  Expand(caller.identity, &identity_);
  std::string agent, request, response, additional, resources, tls, ids;
  Expand(caller.agent, &agent);
  Expand(call.request, &request);
  Expand(call.error_code.empty() ? call.response : "null", &response);
  Expand(call.additional, &additional);
  Expand(call.resources, &resources);
  Expand(R"("requestID":"<request>","eventID":"<uuid>")", &ids);
  if (call.type == "AwsApiCall" && caller.address.find("amazonaws") == std::string_view::npos && (record_ >> 8) % 4 != 0) {
    tls = R"(,"tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":")";
    tls += call.source.substr(0, call.source.find('.'));
    tls += (call.global ? std::string() : "." + place.region) + R"(.amazonaws.com"})";
  }
  if (size_bytes_ != 0) {
    constexpr size_t kSkeleton = 565;  // names of members, time, source, ids
    const auto have = [&] { return kSkeleton + identity_.size() + agent.size() + request.size() + response.size() + additional.size() + resources.size() + tls.size(); };
    if (have() > size_bytes_) tls.clear();
    if (have() > size_bytes_) agent.resize(std::min(agent.size(), agent.find(' ')));
    if (have() > size_bytes_) resources.clear();
    if (have() > size_bytes_) additional.clear();
    if (have() > size_bytes_) response = "null";
    Pad(have(), &additional);
  }
  std::string r;
  r.reserve(2048);
  r += R"({"eventVersion":"1.11","userIdentity":)" + identity_ + R"(,"eventTime":")" + Rfc3339(when) + R"(","eventSource":")";
  r += call.source;
  r += R"(","eventName":")";
  r += call.name;
  r += R"(","awsRegion":")" + (call.global ? "us-east-1" : place.region) + R"(","sourceIPAddress":")";
  Expand(caller.address, &r);
  r += R"(","userAgent":")" + agent + '"';
  if (!call.error_code.empty()) {
    r += R"(,"errorCode":")" + std::string(call.error_code) + R"(","errorMessage":")";
    Expand(call.error_message, &r);
    r += '"';
  }
  r += R"(,"requestParameters":)" + request + R"(,"responseElements":)" + response;
  if (!additional.empty()) r += R"(,"additionalEventData":{)" + additional + '}';
  r += ',' + ids + R"(,"readOnly":)" + (call.read_only ? "true" : "false");
  if (!resources.empty()) r += R"(,"resources":)" + resources;
  r += R"(,"eventType":")" + std::string(call.type) + R"(","managementEvent":)" + (call.category == "Management" ? "true" : "false");
  r += R"(,"recipientAccountId":")" + place.account + R"(","eventCategory":")" + std::string(call.category) + '"' + tls + '}';
  return r;
}

std::string RecordMaker::Ordinary(const Place& place, absl::Time when) {
  const Call* call = &Weighted(kCalls, rng_);
  const Caller* caller = &Weighted(kCallers, rng_);
  const bool sign_in = call->type == "AwsConsoleSignIn";
  if (sign_in) caller = &kCallers[4];
  if (call->type == "AwsServiceEvent") caller = &kCallers[5];
  const bool by_service = caller == &kCallers[5];
  if (by_service && call->name != "AssumeRole" && call->name != "Decrypt" && call->name != "RotateKey") caller = &kCallers[0];
  Call refused = *call;
  if (!by_service && !sign_in) {
    switch (const uint64_t dice = rng_.Below(1000); dice / 10) {
      case 0: case 1: case 2:
        refused.error_code = call->source.starts_with("ec2.") ? "Client.UnauthorizedOperation" : "AccessDenied";
        refused.error_message = call->source.starts_with("ec2.")
                                    ? "You are not authorized to perform this operation. User: <caller> is not authorized to perform: <action>"
                                    : "User: <caller> is not authorized to perform: <action> because no identity-based policy allows the <action> action";
        call = &refused;
        break;
      case 3:
        refused.error_code = "ThrottlingException";
        refused.error_message = "Rate exceeded";
        call = &refused;
        break;
      case 4:
        if (call->name == "GetBucketPolicy") {
          refused.error_code = "NoSuchBucketPolicy";
          refused.error_message = "The bucket policy does not exist";
          call = &refused;
        }
        break;
      default: break;
    }
  }
  return Make(*call, *caller, place, when);
}

}  // namespace orgtrail::data
