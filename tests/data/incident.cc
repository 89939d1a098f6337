#include "tests/data/incident.h"

namespace orgtrail::data {
namespace {

struct Act {
  int seconds_before;
  size_t account, region;
  const Caller* caller;
  Call call;
};

constexpr std::string_view kIntruder = "203.0.113.77", kIntruderAgent = "aws-cli/1.32.7 md/Botocore#1.34.7 ua/2.0 os/linux#6.6.9-amd64 md/arch#x86_64 lang/python#3.11.8";
constexpr std::string_view kOffice = "198.51.100.9", kOfficeAgent = "aws-cli/2.16.12 md/awscrt#0.20.11 ua/2.0 os/linux#6.1.0-21-amd64 md/arch#x86_64 lang/python#3.11.8";
constexpr std::string_view kBrowser = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0";

constexpr Caller kLeakedKey = {0, R"({"type":"IAMUser","principalId":"AIDA4XQ2M7ELTZK5WJ3R","arn":"arn:aws:iam::<account>:user/ci-deploy","accountId":"<account>","accessKeyId":"AKIA4XQ2M7EL6TNRB2VQ","userName":"ci-deploy"})",
                               kIntruder, kIntruderAgent};
constexpr Caller kWidened = {0, R"({"type":"AssumedRole","principalId":"AROA4XQ2M7ELQ2YH6PDU:maint","arn":"arn:aws:sts::<account>:assumed-role/report-runner/maint","accountId":"<account>","accessKeyId":"ASIA4XQ2M7ELV5KC3WPA","sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROA4XQ2M7ELQ2YH6PDU","arn":"arn:aws:iam::<account>:role/report-runner","accountId":"<account>","userName":"report-runner"},"attributes":{"creationDate":"<time-2>","mfaAuthenticated":"false"}}})",
                             kIntruder, kIntruderAgent};
constexpr Caller kOtherAccount = {0, R"({"type":"AWSAccount","principalId":"AROA4XQ2M7ELQ2YH6PDU:maint","accountId":"222222222222"})", kIntruder, kIntruderAgent};
constexpr Caller kSharedRole = {0, R"({"type":"AssumedRole","principalId":"AROA7JD5N3CUZ4KX2LQW:maint","arn":"arn:aws:sts::<account>:assumed-role/data-share/maint","accountId":"<account>","accessKeyId":"ASIA7JD5N3CUW6BH4RTE","sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROA7JD5N3CUZ4KX2LQW","arn":"arn:aws:iam::<account>:role/data-share","accountId":"<account>","userName":"data-share"},"attributes":{"creationDate":"<time-2>","mfaAuthenticated":"false"}}})",
                                kIntruder, kIntruderAgent};
constexpr Caller kSupportRole = {0, R"({"type":"AssumedRole","principalId":"AROA2RV6K4DWXH3TZ5JM:maint","arn":"arn:aws:sts::<account>:assumed-role/organization-support/maint","accountId":"<account>","accessKeyId":"ASIA2RV6K4DWQ7YN5CLU","sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROA2RV6K4DWXH3TZ5JM","arn":"arn:aws:iam::<account>:role/organization-support","accountId":"<account>","userName":"organization-support"},"attributes":{"creationDate":"<time-1>","mfaAuthenticated":"false"}}})",
                                 kIntruder, kIntruderAgent};
constexpr Caller kAnybody = {0, R"({"type":"AWSAccount","principalId":"","accountId":"anonymous"})", kIntruder, "[Wget/1.21.4]"};
constexpr Caller kOperator = {0, R"({"type":"IAMUser","principalId":"AIDA2RV6K4DWP3MS7HYC","arn":"arn:aws:iam::<account>:user/backup-operator","accountId":"<account>","accessKeyId":"","userName":"backup-operator"})",
                              kIntruder, kBrowser};
constexpr Caller kResponder = {0, R"({"type":"AssumedRole","principalId":"AROA5TF3Q6NXC2RV7KZB:ivy.chen","arn":"arn:aws:sts::<account>:assumed-role/IncidentResponse/ivy.chen","accountId":"<account>","accessKeyId":"ASIA5TF3Q6NXL4JW6DUE","sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROA5TF3Q6NXC2RV7KZB","arn":"arn:aws:iam::<account>:role/IncidentResponse","accountId":"<account>","userName":"IncidentResponse"},"attributes":{"creationDate":"<time-3>","mfaAuthenticated":"true"}}})",
                               kOffice, kOfficeAgent};

constexpr std::string_view kInvoices = R"([{"accountId":"<account>","type":"AWS::S3::Bucket","ARN":"arn:aws:s3:::acme-invoices-prod"}])";
constexpr std::string_view kS3 =
    R"("SignatureVersion":"SigV4","CipherSuite":"TLS_AES_128_GCM_SHA256","bytesTransferredIn":<num3>,"AuthenticationMethod":"AuthHeader","x-amz-id-2":"<id2>","bytesTransferredOut":0)";
constexpr std::string_view kRoleResource = R"([{"accountId":"<account>","type":"AWS::IAM::Role","ARN":"arn:aws:iam::<account>:role/report-runner"}])";
constexpr std::string_view kNotAllowed = "User: <caller> is not authorized to perform: <action> because no identity-based policy allows the <action> action";

Call Iam(std::string_view name, bool read_only, std::string_view request, std::string_view response = "null") {
  Call c{0, "iam.amazonaws.com", name, read_only, request, response};
  c.global = true;
  return c;
}

Call Refused(Call call, std::string_view code, std::string_view message) {
  call.error_code = code;
  call.error_message = message;
  return call;
}

Call S3(std::string_view name, std::string_view request, bool read_only = false) {
  return {0, "s3.amazonaws.com", name, read_only, request, "null", kS3, kInvoices};
}

Call SignIn(std::string_view response) {
  return {0, "signin.amazonaws.com", "ConsoleLogin", false, "null", response,
          R"("LoginTo":"https://console.aws.amazon.com/console/home?region=us-east-1","MobileVersion":"No","MFAUsed":"No")", "", "Management", "AwsConsoleSignIn"};
}

Call Assume(std::string_view request, std::string_view response) {
  return {0, "sts.amazonaws.com", "AssumeRole", true, request, response};
}

std::vector<Act> Story() {
  std::vector<Act> acts = {
      {1560, 1, 0, &kLeakedKey, {0, "sts.amazonaws.com", "GetCallerIdentity", true}},
      {1540, 1, 0, &kLeakedKey, {0, "s3.amazonaws.com", "ListBuckets", true, R"({"Host":"s3.us-east-1.amazonaws.com"})", "null", kS3}},
      {1512, 1, 0, &kLeakedKey, Refused(Iam("ListUsers", true, "null"), "AccessDenied", kNotAllowed)},
      {1470, 1, 0, &kLeakedKey, Iam("ListAttachedRolePolicies", true, R"({"roleName":"report-runner"})")},
      {1380, 1, 0, &kLeakedKey, [] {
         Call c = Iam("AttachRolePolicy", false, R"({"roleName":"report-runner","policyArn":"arn:aws:iam::aws:policy/AdministratorAccess"})");
         c.resources = kRoleResource;
         return c;
       }()},
      {1330, 1, 1, &kLeakedKey, Assume(R"({"roleArn":"arn:aws:iam::<account>:role/report-runner","roleSessionName":"maint"})",
        R"({"credentials":{"accessKeyId":"ASIA4XQ2M7ELV5KC3WPA","sessionToken":"<id2><id2>","expiration":"<time+60>"},"assumedRoleUser":{"assumedRoleId":"AROA4XQ2M7ELQ2YH6PDU:maint","arn":"arn:aws:sts::<account>:assumed-role/report-runner/maint"}})")},
      {1230, 1, 1, &kWidened, {0, "lambda.amazonaws.com", "UpdateFunctionConfiguration20150331v2", false,
        R"({"functionName":"invoice-export-prod","role":"arn:aws:iam::<account>:role/report-runner","layers":["arn:aws:lambda:<region>:203203203203:layer:telemetry-helper:4"],"environment":{}})",
        R"({"functionName":"invoice-export-prod","functionArn":"arn:aws:lambda:<region>:<account>:function:invoice-export-prod","runtime":"python3.11","role":"arn:aws:iam::<account>:role/report-runner","handler":"app.handler","codeSize":48211,"timeout":900,"memorySize":512,"lastModified":"<time>","version":"$LATEST","environment":{},"layers":[{"arn":"arn:aws:lambda:<region>:203203203203:layer:telemetry-helper:4","codeSize":18342}],"lastUpdateStatus":"InProgress"})"}},
      {1080, 2, 1, &kOtherAccount, Assume(R"({"roleArn":"arn:aws:iam::<account>:role/data-share","roleSessionName":"maint"})",
        R"({"credentials":{"accessKeyId":"ASIA7JD5N3CUW6BH4RTE","sessionToken":"<id2><id2>","expiration":"<time+60>"},"assumedRoleUser":{"assumedRoleId":"AROA7JD5N3CUZ4KX2LQW:maint","arn":"arn:aws:sts::<account>:assumed-role/data-share/maint"}})")},
      {980, 2, 1, &kSharedRole, S3("PutBucketPublicAccessBlock",
        R"({"publicAccessBlock":"","bucketName":"acme-invoices-prod","PublicAccessBlockConfiguration":{"xmlns":"http://s3.amazonaws.com/doc/2006-03-01/","RestrictPublicBuckets":false,"BlockPublicPolicy":false,"BlockPublicAcls":false,"IgnorePublicAcls":false},"Host":"acme-invoices-prod.s3.<region>.amazonaws.com"})")},
      {950, 2, 1, &kSharedRole, S3("PutBucketPolicy",
        R"({"bucketPolicy":{"Version":"2012-10-17","Statement":[{"Sid":"PublicRead","Effect":"Allow","Principal":"*","Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::acme-invoices-prod","arn:aws:s3:::acme-invoices-prod/*"]}]},"bucketName":"acme-invoices-prod","Host":"acme-invoices-prod.s3.<region>.amazonaws.com","policy":""})")},
      {700, 0, 0, &kOtherAccount, Assume(R"({"roleArn":"arn:aws:iam::<account>:role/organization-support","roleSessionName":"maint"})",
        R"({"credentials":{"accessKeyId":"ASIA2RV6K4DWQ7YN5CLU","sessionToken":"<id2><id2>","expiration":"<time+60>"},"assumedRoleUser":{"assumedRoleId":"AROA2RV6K4DWXH3TZ5JM:maint","arn":"arn:aws:sts::<account>:assumed-role/organization-support/maint"}})")},
      {660, 0, 0, &kSupportRole, Iam("CreateAccessKey", false, R"({"userName":"backup-operator"})",
        R"({"accessKey":{"userName":"backup-operator","accessKeyId":"AKIA2RV6K4DWB5XZ3QHN","status":"Active","createDate":"<time>"}})")},
      {620, 0, 0, &kSupportRole, Iam("UpdateLoginProfile", false, R"({"userName":"backup-operator","passwordResetRequired":false})")},
      {550, 0, 0, &kOperator, SignIn(R"({"ConsoleLogin":"Failure"})")},
      {520, 0, 0, &kOperator, SignIn(R"({"ConsoleLogin":"Success"})")},
      {420, 1, 1, &kWidened, Refused({0, "cloudtrail.amazonaws.com", "StopLogging", false, R"({"name":"arn:aws:cloudtrail:us-east-1:111111111111:trail/organization"})"}, "AccessDenied",
        "User: <caller> is not authorized to perform: cloudtrail:StopLogging on resource: arn:aws:cloudtrail:us-east-1:111111111111:trail/organization: an organization trail belongs to the management account")},
      {240, 0, 0, &kResponder, {0, "cloudtrail.amazonaws.com", "LookupEvents", true, R"({"maxResults":50,"lookupAttributes":[{"attributeKey":"AccessKeyId","attributeValue":"AKIA4XQ2M7EL6TNRB2VQ"}]})"}},
      {200, 2, 1, &kResponder, S3("PutBucketPublicAccessBlock",
        R"({"publicAccessBlock":"","bucketName":"acme-invoices-prod","PublicAccessBlockConfiguration":{"xmlns":"http://s3.amazonaws.com/doc/2006-03-01/","RestrictPublicBuckets":true,"BlockPublicPolicy":true,"BlockPublicAcls":true,"IgnorePublicAcls":true},"Host":"acme-invoices-prod.s3.<region>.amazonaws.com"})")},
      {170, 2, 1, &kResponder, S3("DeleteBucketPolicy", R"({"bucketName":"acme-invoices-prod","Host":"acme-invoices-prod.s3.<region>.amazonaws.com","policy":""})")},
      {140, 1, 0, &kResponder, [] {
         Call c = Iam("DetachRolePolicy", false, R"({"roleName":"report-runner","policyArn":"arn:aws:iam::aws:policy/AdministratorAccess"})");
         c.resources = kRoleResource;
         return c;
       }()},
      {110, 1, 0, &kResponder, Iam("UpdateAccessKey", false, R"({"accessKeyId":"AKIA4XQ2M7EL6TNRB2VQ","status":"Inactive","userName":"ci-deploy"})")},
      {70, 0, 0, &kResponder, Iam("DeleteAccessKey", false, R"({"userName":"backup-operator","accessKeyId":"AKIA2RV6K4DWB5XZ3QHN"})")},
  };
  constexpr std::string_view kTaken[] = {
      R"({"bucketName":"acme-invoices-prod","Host":"acme-invoices-prod.s3.<region>.amazonaws.com","key":"2026/q1/invoices.parquet"})",
      R"({"bucketName":"acme-invoices-prod","Host":"acme-invoices-prod.s3.<region>.amazonaws.com","key":"2026/q2/invoices.parquet"})",
      R"({"bucketName":"acme-invoices-prod","Host":"acme-invoices-prod.s3.<region>.amazonaws.com","key":"2026/q3/invoices.parquet"})",
      R"({"bucketName":"acme-invoices-prod","Host":"acme-invoices-prod.s3.<region>.amazonaws.com","key":"customers/addresses.csv.gz"})",
      R"({"bucketName":"acme-invoices-prod","Host":"acme-invoices-prod.s3.<region>.amazonaws.com","key":"customers/bank-accounts.csv.gz"})",
      R"({"bucketName":"acme-invoices-prod","Host":"acme-invoices-prod.s3.<region>.amazonaws.com","key":"exports/2026-11/partners.json.gz"})"};
  int seconds = 900;
  for (std::string_view request : kTaken) {
    Call get = S3("GetObject", request, true);
    get.category = "Data";
    get.additional = R"("CipherSuite":"TLS_AES_128_GCM_SHA256","bytesTransferredIn":0,"x-amz-id-2":"<id2>","bytesTransferredOut":7<num7>)";
    acts.push_back({seconds, 2, 1, &kAnybody, get});
    seconds -= 17;
  }
  return acts;
}

}  // namespace

std::vector<Line> Incident(RecordMaker& maker, const std::vector<std::string>& accounts, const std::vector<std::string>& regions, absl::Time now) {
  std::vector<Line> lines;
  for (const Act& act : Story()) {
    const Place place{accounts[act.account % accounts.size()], regions[act.region % regions.size()]};
    const absl::Time when = now - absl::Seconds(act.seconds_before);
    lines.push_back({when, place, maker.Make(act.call, *act.caller, place, when)});
  }
  return lines;
}

}  // namespace orgtrail::data
