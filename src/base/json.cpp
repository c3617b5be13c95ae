#include "base/json.h"

#include <array>
#include <iterator>
#include <stdexcept>
#include <utility>

namespace flexq {
namespace {

// Reads the text and leaves the number of bytes consumed so far in `position`, which the parser
// itself tells in its own errors only.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, size_t* position) : at_(at), position_(position) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    ++*position_;
    return *this;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  size_t* position_;
};

// Builds the document from the parser's events and stops at the first broken rule.
class DocumentBuilder final : public nlohmann::json_sax<Json> {
 public:
  explicit DocumentBuilder(const size_t* position) : position_(position) {}

  JsonDocument take_document() { return std::move(document_); }
  const std::string& problem() const { return problem_; }
  size_t problem_position() const { return problem_position_; }

  bool null() override { return add(Json(nullptr)); }
  bool boolean(bool value) override { return add(Json(value)); }
  bool number_integer(number_integer_t value) override { return add(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return add(Json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return add(Json(value)); }
  bool string(string_t& value) override { return add(Json(std::move(value))); }
  bool binary(binary_t&) override { return fail("binary data"); }
  bool start_object(size_t) override { return open(Json::object()); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    Json::object_t& object = open_[depth_ - 1]->get_ref<Json::object_t&>();
    const auto [entry, inserted] = object.try_emplace(name);
    if (!inserted) return fail("duplicate key \"" + printable(name) + "\"");
    member_ = &entry->second;
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // The parser's text is "[id] parse error at line 1, column 2: what; last read: 'bytes'". Only
    // "what" is of use: the bytes may be megabytes and need not be text.
    std::string what = error.what();
    const size_t colon = what.find(": ");
    if (colon != std::string::npos) what.erase(0, colon + 2);
    what.erase(std::min(what.size(), what.find("; last read")));
    problem_ = printable(what);
    problem_position_ = position;
    return false;
  }

 private:
  // At most 100 bytes of `text`, with "?" for whatever is not printable ASCII.
  static std::string printable(const std::string& text) {
    std::string out = text.substr(0, 100);
    for (char& c : out) {
      if (c < 0x20 || c > 0x7e) c = '?';
    }
    return out;
  }

  bool fail(std::string problem) {
    problem_ = std::move(problem);
    problem_position_ = *position_;
    return false;
  }

  // Puts `value` where the document expects one; returns its place.
  Json* place(Json value) {
    if (depth_ == 0) {
      document_.root() = std::move(value);
      return &document_.root();
    }
    Json& parent = *open_[depth_ - 1];
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    *member_ = std::move(value);
    return member_;
  }

  bool add(Json value) {
    place(std::move(value));
    return true;
  }

  bool open(Json container) {
    if (depth_ == open_.size())
      return fail("nested deeper than " + std::to_string(kMaxJsonDepth) + " levels");
    Json* placed = place(std::move(container));
    open_[depth_++] = placed;
    return true;
  }

  bool close() {
    --depth_;
    return true;
  }

  const size_t* position_;
  JsonDocument document_;
  std::array<Json*, kMaxJsonDepth> open_{};  // the containers around the current value
  size_t depth_ = 0;
  Json* member_ = nullptr;  // the place of the value that follows a key
  std::string problem_;
  size_t problem_position_ = 0;
};

bool has_members(const Json& value) {
  return value.is_structured() && !value.empty();
}

Json& last_member(Json& container) {
  if (container.is_array()) return container.get_ptr<Json::array_t*>()->back();
  return std::prev(container.get_ptr<Json::object_t*>()->end())->second;
}

void drop_last_member(Json& container) {
  if (container.is_array()) {
    container.get_ptr<Json::array_t*>()->pop_back();
  } else {
    Json::object_t& object = *container.get_ptr<Json::object_t*>();
    object.erase(std::prev(object.end()));
  }
}

// Drops the members of all containers, innermost first.
void take_apart(Json& root) {
  // A parsed document may be part of one that was built around it.
  std::array<Json*, 2 * kMaxJsonDepth> path;
  size_t depth = 0;
  if (has_members(root)) path[depth++] = &root;
  while (depth > 0) {
    Json& container = *path[depth - 1];
    Json& member = last_member(container);
    if (has_members(member) && depth < path.size()) {
      path[depth++] = &member;
      continue;
    }
    drop_last_member(container);
    if (container.empty()) --depth;
  }
}

}  // namespace

JsonDocument& JsonDocument::operator=(JsonDocument&& other) noexcept {
  if (this != &other) {
    take_apart(root_);
    root_ = std::move(other.root_);
  }
  return *this;
}

JsonDocument::~JsonDocument() {
  take_apart(root_);
}

void json_misuse(const char* condition) {
  throw std::logic_error(condition);
}

Result<JsonDocument> parse_json(std::string_view text, const std::string& name) {
  size_t position = 0;
  DocumentBuilder builder(&position);
  const CountingIterator begin(text.data(), &position);
  const CountingIterator end(text.data() + text.size(), &position);
  if (Json::sax_parse(begin, end, &builder)) return builder.take_document();
  return Status::error(StatusCode::kCorrupt, "%s: malformed JSON at byte %zu of %zu: %s",
                       name.c_str(), builder.problem_position(), text.size(),
                       builder.problem().c_str());
}

}  // namespace flexq
