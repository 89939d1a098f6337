// How an alarm is shown. Pure.
#pragma once

#include <string>
#include <string_view>

#include "orgtrail/v1/admin.pb.h"

namespace orgtrail::client {

std::string AlarmJson(const v1::Alarm& alarm);
std::string PaintSeverity(bool color, std::string_view severity);

}  // namespace orgtrail::client
