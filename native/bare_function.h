// Functions of V8's own, not of N-API: for what is called once or twice per echo, where the checks and scopes around an N-API call cost as much
// again as the call. And its values, for what N-API cannot do.
#pragma once

#include <napi.h>
#include <v8.h>

#include <cstring>

namespace onewait {

// N-API has no name for it: napi_value is a v8::Local in every release of Node (js_native_api_v8.h).
static_assert(sizeof(v8::Local<v8::Value>) == sizeof(napi_value));

inline v8::Local<v8::Value> to_v8(napi_value value) {
  v8::Local<v8::Value> local;
  std::memcpy(static_cast<void*>(&local), &value, sizeof value);
  return local;
}

/** Exports `callback`. `info.Data()` is an External that holds `data`, if there is any, which must outlive the environment's JavaScript. */
inline void export_bare(Napi::Env env, Napi::Object exports, const char* name, v8::FunctionCallback callback, void* data = nullptr) {
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
  v8::Local<v8::Value> external;
  if (data != nullptr) external = v8::External::New(isolate, data);
  v8::Local<v8::Function> function;
  if (!v8::Function::New(isolate->GetCurrentContext(), callback, external).ToLocal(&function)) return;
  napi_value value;
  std::memcpy(&value, static_cast<void*>(&function), sizeof value);
  exports.Set(name, Napi::Value(env, value));
}

}  // namespace onewait
