// Gauges of the parts that do not export themselves: read whenever somebody asks for the metrics. What is read outlives the Metrics' last Text().
#pragma once

#include "aggregator/enrol/server_renewal.h"
#include "aggregator/ledger/committer.h"
#include "aggregator/ledger/ledger.h"
#include "aggregator/ledger/missing_bodies.h"
#include "aggregator/scrub/scrubber.h"
#include "common/metrics/metrics.h"

namespace orgtrail {

void ExportLedger(Metrics& metrics, const Ledger& ledger, const Committer& committer);
void ExportCertificates(Metrics& metrics, const ServerRenewal& renewal);
void ExportScrub(Metrics& metrics, const Scrubber& scrubber);
void ExportRefill(Metrics& metrics, const MissingBodies& missing);

}  // namespace orgtrail
