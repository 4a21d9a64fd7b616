// Checks what JavaScript hands over. napi_get_value_int32 would turn NaN into 0 (standard input!) and 2^32 + 5 into 5, so numbers are read
// as doubles and must be whole and in range. The first bad argument leaves a pending TypeError or RangeError; ok() is then false.
#pragma once

#include <napi.h>

#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "turn.h"

namespace onewait {

class Args {
 public:
  explicit Args(const Napi::CallbackInfo& info) : info_(info), env_(info.Env()) {}

  bool ok() const { return ok_; }

  double number(size_t index, const char* name, double minimum, double maximum) {
    const Napi::Value value = info_[index];
    if (!value.IsNumber()) {
      fail<Napi::TypeError>(name, "must be a number");
      return 0;
    }
    const double number = value.As<Napi::Number>().DoubleValue();
    if (!(number >= minimum && number <= maximum)) {
      fail<Napi::RangeError>(name, "is out of range: " + std::to_string(number));
      return 0;
    }
    return number;
  }

  int32_t integer(size_t index, const char* name, int32_t minimum = 0, int32_t maximum = std::numeric_limits<int32_t>::max()) {
    const double value = number(index, name, minimum, maximum);
    if (ok_ && value != std::trunc(value)) fail<Napi::RangeError>(name, "must be a whole number: " + std::to_string(value));
    return ok_ ? static_cast<int32_t>(value) : 0;
  }

  int32_t fd(size_t index) { return integer(index, "fd"); }

  /** kRead, kWrite or both, or kRead with kEdge. */
  uint32_t interest(size_t index) {
    const int32_t events = integer(index, "events", kRead, kRead | kEdge);
    if (ok_ && events == kEdge) fail<Napi::RangeError>("events", "must ask for reading or writing");
    return static_cast<uint32_t>(events);
  }

  std::string string(size_t index, const char* name) {
    const Napi::Value value = info_[index];
    if (value.IsString()) return value.As<Napi::String>().Utf8Value();
    fail<Napi::TypeError>(name, "must be a string");
    return {};
  }

  /** For C, where a string ends at its first NUL: one inside would cut a path or an address short. */
  std::string c_string(size_t index, const char* name) {
    std::string value = string(index, name);
    if (value.find('\0') != std::string::npos) fail<Napi::TypeError>(name, "must not contain a NUL");
    return value;
  }

  /** A path, or a name that begins with a NUL and may contain more (unix(7)). */
  std::string socket_path(size_t index, const char* name) {
    const std::string value = string(index, name);
    return value.empty() || value[0] != '\0' ? c_string(index, name) : value;
  }

  /** Whatever it is; false where an exception is pending, with which nothing can be converted. */
  bool boolean(size_t index) { return ok_ && info_[index].ToBoolean().Value(); }

  Napi::Function function(size_t index, const char* name) {
    const Napi::Value value = info_[index];
    if (value.IsFunction()) return value.As<Napi::Function>();
    fail<Napi::TypeError>(name, "must be a function");
    return {};
  }

  Napi::Object object(size_t index, const char* name) {
    const Napi::Value value = info_[index];
    if (value.IsObject()) return value.As<Napi::Object>();
    fail<Napi::TypeError>(name, "must be an object");
    return {};
  }

  Napi::ArrayBuffer array_buffer(size_t index, const char* name) {
    const Napi::Value value = info_[index];
    if (value.IsArrayBuffer()) return value.As<Napi::ArrayBuffer>();
    fail<Napi::TypeError>(name, "must be an ArrayBuffer");
    return {};
  }

  /** Arguments index, index + 1 and index + 2: a Uint8Array, an offset and a length in bytes, of which the last two lie within the first. */
  Turn::Area bytes(size_t index) {
    const Turn::Area all = uint8_array(info_[index], "buffer");
    const double length = static_cast<double>(all.length);
    const double offset = ok_ ? number(index + 1, "offset", 0, length) : 0;
    const double wanted = ok_ ? number(index + 2, "length", 0, length - offset) : 0;
    if (offset != std::trunc(offset) || wanted != std::trunc(wanted)) fail<Napi::RangeError>("offset and length", "must be whole numbers");
    if (!ok_) return {};
    return {all.data + static_cast<size_t>(offset), static_cast<size_t>(wanted)};
  }

  /** An array of `most` Uint8Arrays at the most; what their memory is now, which may change as soon as JavaScript runs. */
  std::span<const Turn::Area> byte_arrays(size_t index, size_t most, std::vector<Turn::Area>& areas) {
    areas.clear();
    uint32_t count = 0;
    if (napi_get_array_length(env_, info_[index], &count) != napi_ok || count > most) {
      fail<Napi::TypeError>("buffers", "must be an array of at most " + std::to_string(most));
      return {};
    }
    // In two passes, for an element can be a getter, which can do anything to the memory of those before it.
    std::vector<napi_value> buffers(count);
    for (uint32_t i = 0; i < count && ok_; ++i) ok_ = napi_get_element(env_, info_[index], i, &buffers[i]) == napi_ok;
    for (uint32_t i = 0; i < count && ok_; ++i) areas.push_back(uint8_array(Napi::Value(env_, buffers[i]), "buffers"));
    return areas;
  }

 private:
  Turn::Area uint8_array(const Napi::Value& value, const char* name) {
    napi_typedarray_type type;
    napi_value buffer;
    void* data = nullptr;
    size_t length = 0;
    bool plain = false;
    if (!value.IsTypedArray() || napi_get_typedarray_info(env_, value, &type, &length, &data, &buffer, nullptr) != napi_ok || type != napi_uint8_array) {
      fail<Napi::TypeError>(name, "must be a Uint8Array");
    } else if (napi_is_arraybuffer(env_, buffer, &plain) != napi_ok || !plain) {
      // Another thread could shrink or write shared memory under the kernel's hands.
      fail<Napi::TypeError>(name, "must not be backed by shared memory");
    }
    return {static_cast<uint8_t*>(data), length};
  }

  template <typename Error>
  void fail(const char* name, const std::string& what) {
    if (ok_) Error::New(env_, std::string("The argument \"") + name + "\" " + what).ThrowAsJavaScriptException();
    ok_ = false;
  }

  const Napi::CallbackInfo& info_;
  Napi::Env env_;
  bool ok_ = true;
};

}  // namespace onewait
