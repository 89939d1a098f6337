#include "common/config/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <optional>
#include <sstream>
#include <tuple>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "common/base/nearest.h"
#include "common/base/status.h"

namespace orgtrail {
namespace {

constexpr size_t kFileBytes = 1 << 20;
constexpr int kDepth = 32;       // of mappings and lists; ours has five
constexpr size_t kErrors = 100;  // a person mends a hundred, then reads the rest

// The document as a tree of our own: it keeps lines and duplicates, has no aliases, and does not change while it is read.
struct Item {
  enum class Kind { kNull, kScalar, kList, kMap };
  Item() = default;
  Item(Kind k, int on_line) : kind(k), line(on_line) {}
  Kind kind = Kind::kNull;
  int line = 1;
  bool quoted = false;
  std::string text;                                        // kScalar
  std::vector<std::pair<Item, Item>> members;              // kMap: key, value
  std::vector<Item> elements;                              // kList
};

std::string_view KindName(const Item& item) {
  switch (item.kind) {
    case Item::Kind::kNull: return "nothing";
    case Item::Kind::kScalar: return "a single value";
    case Item::Kind::kList: return "a list";
    case Item::Kind::kMap: return "a mapping";
  }
  return "something else";
}

// What a mistake stops with; never leaves this file.
struct Refused {
  int line;
  std::string why;
};

class TreeBuilder final : public YAML::EventHandler {
 public:
  Item Take() { return std::move(root_); }
  bool any() const { return documents_ > 0; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) throw Refused{Line(mark), "a second document begins here: one file, one document"};
  }
  void OnDocumentEnd() override {}
  void OnAnchor(const YAML::Mark& mark, const std::string& name) override {
    throw Refused{Line(mark), "anchor &" + name + ": anchors and aliases are not supported, write the value out"};
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw Refused{Line(mark), "an alias: anchors and aliases are not supported, write the value out"};
  }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { Put(Item(Item::Kind::kNull, Line(mark))); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& value) override {
    Item item(Item::Kind::kScalar, Line(mark));
    item.quoted = tag == "!";
    item.text = value;
    Put(std::move(item));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    Open(Item(Item::Kind::kList, Line(mark)));
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {
    Open(Item(Item::Kind::kMap, Line(mark)));
  }
  void OnMapEnd() override { Close(); }

 private:
  struct Frame {
    Item item;
    std::optional<Item> key;
  };
  static int Line(const YAML::Mark& mark) { return mark.is_null() ? 1 : mark.line + 1; }
  void Open(Item item) {
    if (open_.size() >= kDepth) throw Refused{item.line, "nested too deep"};
    open_.push_back(Frame{std::move(item), std::nullopt});
  }
  void Close() {
    Item done = std::move(open_.back().item);
    open_.pop_back();
    Put(std::move(done));
  }
  void Put(Item item) {
    if (open_.empty()) {
      root_ = std::move(item);
      return;
    }
    Frame& top = open_.back();
    if (top.item.kind == Item::Kind::kList) {
      top.item.elements.push_back(std::move(item));
    } else if (!top.key) {
      if (item.kind != Item::Kind::kScalar) throw Refused{item.line, "a key must be a single word"};
      top.key = std::move(item);
    } else {
      item.line = top.key->line;  // where a person looks: a value that is missing or a block begins further down
      top.item.members.emplace_back(*std::exchange(top.key, std::nullopt), std::move(item));
    }
  }

  std::vector<Frame> open_;
  Item root_;
  int documents_ = 0;
};

// In this order they are said: what is missing may be what an unknown key was meant to be.
enum class Fault { kUnknown, kWrong, kMissing };

struct Error {
  int line;
  std::string path, what;
  Fault fault = Fault::kWrong;
};

struct Document {
  std::string file;
  Item root;
  std::vector<Error> errors;

  // One error a key: what follows from the first would only confuse.
  void Add(int line, std::string path, std::string what, Fault fault = Fault::kWrong) {
    for (const Error& e : errors) {
      if (e.path == path) return;
    }
    if (errors.size() < kErrors) errors.push_back(Error{line, std::move(path), std::move(what), fault});
  }
  // It is there under another name.
  void NotMissing(std::string_view path) {
    std::erase_if(errors, [&](const Error& e) { return e.fault == Fault::kMissing && e.path == path; });
  }
};

std::string UnknownKey(std::string_view meant, const std::set<std::string, std::less<>>& known) {
  if (!meant.empty()) return "unknown key (did you mean " + std::string(meant) + "?)";
  if (known.empty()) return "unknown key (nothing is configurable here)";
  return "unknown key (known here: " + absl::StrJoin(known, ", ") + ")";
}

// "12MiB" → 12 and "MiB". False when it does not begin with a digit or the number does not fit.
bool SplitNumber(std::string_view text, uint64_t* number, std::string_view* unit) {
  size_t n = 0;
  while (n < text.size() && text[n] >= '0' && text[n] <= '9') ++n;
  std::optional<uint64_t> parsed = ParseUint(text.substr(0, n));
  if (!parsed) return false;
  *number = *parsed;
  *unit = text.substr(n);
  return true;
}

}  // namespace

struct YamlNode::State {
  std::shared_ptr<Document> document;
  const Item* item = nullptr;  // null: absent, reads as an empty mapping
  int line = 1;                // where to complain about what is missing
  std::string path;
  std::set<std::string, std::less<>> known;
  std::map<std::string, std::vector<std::shared_ptr<State>>, std::less<>> children;  // Map: one, List: each element

  std::string Path(std::string_view key) const { return path.empty() ? std::string(key) : path + "." + std::string(key); }
  const Item* Peek(std::string_view key) const {
    if (item == nullptr) return nullptr;
    for (const auto& [k, v] : item->members) {
      if (k.text == key) return &v;
    }
    return nullptr;
  }
  const Item* Find(std::string_view key) {
    known.emplace(key);
    return Peek(key);
  }
  void Wrong(const Item& value, std::string_view key, std::string_view expected) {
    std::string what = "expected " + std::string(expected) + ", not ";
    if (value.kind == Item::Kind::kScalar) {
      what += JsonString(value.text.substr(0, 80));
    } else {
      what += KindName(value);
    }
    document->Add(value.line, Path(key), what);
  }
  // The text of a scalar, or null after an error.
  const std::string* Scalar(std::string_view key, std::string_view expected) {
    const Item* value = Find(key);
    if (value == nullptr) return nullptr;
    if (value->kind == Item::Kind::kScalar) return &value->text;
    Wrong(*value, key, expected);
    return nullptr;
  }
  std::shared_ptr<State> Child(const Item* child_item, int child_line, std::string child_path) const {
    auto child = std::make_shared<State>();
    child->document = document;
    child->item = child_item;
    child->line = child_line;
    child->path = std::move(child_path);
    return child;
  }
  void CheckKeys() {
    if (item != nullptr) {
      std::map<std::string_view, int> seen;
      for (const auto& [k, v] : item->members) {
        auto [first, fresh] = seen.emplace(k.text, k.line);
        if (!fresh) {
          document->Add(k.line, Path(k.text), "duplicate key (first on line " + std::to_string(first->second) + ")");
        } else if (!known.contains(k.text)) {
          const std::string meant = Nearest(k.text, std::vector<std::string>(known.begin(), known.end()));
          if (!meant.empty()) document->NotMissing(Path(meant));
          document->Add(k.line, Path(k.text), UnknownKey(meant, known), Fault::kUnknown);
        }
      }
    }
    for (auto& [key, states] : children) {
      for (auto& state : states) state->CheckKeys();
    }
  }
};

bool YamlNode::Has(std::string_view key) const { return state_->Find(key) != nullptr; }

void YamlNode::String(std::string_view key, std::string* out) const {
  if (const std::string* text = state_->Scalar(key, "text")) *out = *text;
}

void YamlNode::Bool(std::string_view key, bool* out) const {
  constexpr std::string_view kExpected = "true or false";
  const std::string* text = state_->Scalar(key, kExpected);
  if (text == nullptr) return;
  if (!state_->Peek(key)->quoted && (*text == "true" || *text == "false")) {
    *out = *text == "true";
  } else {
    state_->Wrong(*state_->Peek(key), key, kExpected);
  }
}

void YamlNode::Int(std::string_view key, int64_t* out, int64_t least, int64_t most) const {
  const std::string expected = absl::StrCat("a whole number from ", least, " to ", most);
  const std::string* text = state_->Scalar(key, expected);
  if (text == nullptr) return;
  const bool plain = !state_->Peek(key)->quoted && !text->empty() &&
                     text->find_first_not_of("0123456789", text->starts_with('-') ? 1 : 0) == std::string::npos;
  int64_t value = 0;
  if (plain && absl::SimpleAtoi(*text, &value) && value >= least && value <= most) {
    *out = value;
  } else {
    state_->Wrong(*state_->Peek(key), key, expected);
  }
}

void YamlNode::Bytes(std::string_view key, uint64_t* out) const {
  constexpr std::string_view kExpected = "a size such as 8GiB, 64MiB or 4096";
  const std::string* text = state_->Scalar(key, kExpected);
  if (text == nullptr) return;
  static constexpr std::pair<std::string_view, int> kUnits[] = {{"", 0},     {"B", 0},    {"KiB", 10},
                                                                {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
  uint64_t number = 0;
  std::string_view unit;
  if (SplitNumber(*text, &number, &unit)) {
    for (const auto& [name, shift] : kUnits) {
      if (unit == name && number <= (uint64_t{1} << 62) >> shift) {
        *out = number << shift;
        return;
      }
    }
  }
  state_->Wrong(*state_->Peek(key), key, kExpected);
}

void YamlNode::Duration(std::string_view key, absl::Duration* out) const {
  constexpr std::string_view kExpected = "a duration such as 500ms, 30s, 15m, 24h or 7d";
  const std::string* text = state_->Scalar(key, kExpected);
  if (text == nullptr) return;
  static constexpr std::pair<std::string_view, int64_t> kUnits[] = {
      {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}};
  uint64_t number = 0;
  std::string_view unit;
  if (SplitNumber(*text, &number, &unit) && number <= 1'000'000'000) {
    for (const auto& [name, ms] : kUnits) {
      if (unit == name) {
        *out = absl::Milliseconds(static_cast<int64_t>(number) * ms);
        return;
      }
    }
  }
  state_->Wrong(*state_->Peek(key), key, kExpected);
}

void YamlNode::Percent(std::string_view key, double* out) const {
  constexpr std::string_view kExpected = "a percentage from 0% to 100%";
  const std::string* text = state_->Scalar(key, kExpected);
  if (text == nullptr) return;
  std::string_view digits = *text;
  double value = 0;
  if (digits.ends_with('%')) {
    digits.remove_suffix(1);
    if (!digits.empty() && digits.find_first_not_of("0123456789.") == std::string_view::npos &&
        absl::SimpleAtod(ToAbsl(digits), &value) && value <= 100) {
      *out = value / 100;
      return;
    }
  }
  state_->Wrong(*state_->Peek(key), key, kExpected);
}

void YamlNode::Strings(std::string_view key, std::vector<std::string>* out) const {
  const Item* value = state_->Find(key);
  if (value == nullptr) return;
  std::vector<std::string> all;
  if (value->kind == Item::Kind::kList) {
    for (size_t i = 0; i < value->elements.size(); ++i) {
      const Item& element = value->elements[i];
      if (element.kind != Item::Kind::kScalar) {
        return state_->Wrong(element, std::string(key) + "[" + std::to_string(i) + "]", "text");
      }
      all.push_back(element.text);
    }
  } else if (value->kind != Item::Kind::kNull) {
    return state_->Wrong(*value, key, "a list of texts, such as [a, b]");
  }
  *out = std::move(all);
}

YamlNode YamlNode::Map(std::string_view key) const {
  YamlNode node;
  if (auto known = state_->children.find(key); known != state_->children.end() && known->second.size() == 1) {
    node.state_ = known->second.front();
    return node;
  }
  const Item* value = state_->Find(key);
  const int line = value != nullptr ? value->line : state_->line;
  if (value != nullptr && value->kind != Item::Kind::kMap) {
    if (value->kind != Item::Kind::kNull) state_->Wrong(*value, key, "a mapping (keys and values)");
    value = nullptr;
  }
  node.state_ = state_->Child(value, line, state_->Path(key));
  state_->children[std::string(key)] = {node.state_};
  return node;
}

std::vector<YamlNode> YamlNode::List(std::string_view key) const {
  std::vector<YamlNode> nodes;
  const Item* value = state_->Find(key);
  if (value == nullptr || value->kind == Item::Kind::kNull) return nodes;
  if (value->kind != Item::Kind::kList) {
    state_->Wrong(*value, key, "a list (lines that begin with '- ')");
    return nodes;
  }
  auto& children = state_->children[std::string(key)];
  if (children.empty()) {
    for (size_t i = 0; i < value->elements.size(); ++i) {
      const Item& element = value->elements[i];
      const std::string name = std::string(key) + "[" + std::to_string(i) + "]";
      if (element.kind != Item::Kind::kMap) {
        state_->Wrong(element, name, "a mapping (keys and values)");
        continue;
      }
      children.push_back(state_->Child(&element, element.line, state_->Path(name)));
    }
  }
  for (const auto& child : children) {
    nodes.emplace_back();
    nodes.back().state_ = child;
  }
  return nodes;
}

void YamlNode::Complain(std::string_view key, std::string_view expected) const {
  const Item* value = state_->Find(key);
  if (value != nullptr) {
    state_->Wrong(*value, key, expected);
  } else {
    state_->document->Add(state_->line, state_->Path(key), "expected " + std::string(expected) + ", but it is missing", Fault::kMissing);
  }
}

absl::StatusOr<YamlFile> YamlFile::Parse(std::string_view path, std::string_view text) {
  auto refused = [&](int line, std::string_view why) {
    std::string message(path);
    message += ":" + std::to_string(line) + ": ";
    message += why;
    return absl::InvalidArgumentError(message);
  };
  if (text.size() > kFileBytes) return refused(1, "a configuration file is at most 1 MiB");
  auto document = std::make_shared<Document>();
  document->file = path;
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    TreeBuilder builder;
    while (parser.HandleNextDocument(builder)) {
    }
    if (builder.any()) document->root = builder.Take();
  } catch (const Refused& r) {
    return refused(r.line, r.why);
  } catch (const YAML::Exception& e) {
    return refused(e.mark.is_null() ? 1 : e.mark.line + 1, "not YAML: " + e.msg);
  } catch (const std::exception& e) {
    return refused(1, std::string("not YAML: ") + e.what());
  }
  if (document->root.kind != Item::Kind::kMap && document->root.kind != Item::Kind::kNull) {
    return refused(document->root.line, "expected a mapping (keys and values) at the top of the file, not " +
                                            std::string(KindName(document->root)));
  }
  YamlFile file;
  file.root_ = std::make_shared<YamlNode::State>();
  file.root_->item = &document->root;
  file.root_->document = std::move(document);
  return file;
}

YamlNode YamlFile::root() const {
  YamlNode node;
  node.state_ = root_;
  return node;
}

absl::Status YamlFile::Finish() const {
  root_->CheckKeys();
  std::vector<Error> errors = root_->document->errors;
  if (errors.empty()) return absl::OkStatus();
  std::stable_sort(errors.begin(), errors.end(), [](const Error& a, const Error& b) { return std::tie(a.fault, a.line) < std::tie(b.fault, b.line); });
  std::string message;
  for (const Error& e : errors) {
    if (!message.empty()) message += '\n';
    message += root_->document->file + ":" + std::to_string(e.line) + ": " + e.path + ": " + e.what;
  }
  if (errors.size() == kErrors) message += "\n(there may be more)";
  return absl::InvalidArgumentError(message);
}

bool IsHostPort(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return false;
  const std::string_view host = text.substr(0, colon);
  const bool bracketed = host.starts_with('[') && host.ends_with(']') && host.size() > 2;
  if (!bracketed && host.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") != std::string_view::npos) return false;
  std::optional<uint64_t> port = ParseUint(text.substr(colon + 1));
  return port && *port <= 65535;
}

}  // namespace orgtrail
