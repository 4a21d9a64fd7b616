#include "async_context.h"

#include <node_version.h>
#include <v8.h>

#include <cstring>

namespace onewait {

#if NODE_MAJOR_VERSION >= 24

void export_async_context(Napi::Env, Napi::Object) {}

#else

namespace {

// These are V8's own functions, not N-API's: called twice per awaited echo, where the checks and scopes around an N-API call would cost
// as much again as the call.

void get_async_context(const v8::FunctionCallbackInfo<v8::Value>& info) {
#if V8_MAJOR_VERSION >= 12
  info.GetReturnValue().Set(info.GetIsolate()->GetContinuationPreservedEmbedderData());
#else
  info.GetReturnValue().Set(info.GetIsolate()->GetCurrentContext()->GetContinuationPreservedEmbedderData());
#endif
}

void set_async_context(const v8::FunctionCallbackInfo<v8::Value>& info) {
#if V8_MAJOR_VERSION >= 12
  info.GetIsolate()->SetContinuationPreservedEmbedderData(info[0]);
#else
  info.GetIsolate()->GetCurrentContext()->SetContinuationPreservedEmbedderData(info[0]);
#endif
}

/** N-API has no name for it: napi_value is a v8::Local in every release of Node (js_native_api_v8.h). */
napi_value from_v8(v8::Local<v8::Function> local) {
  static_assert(sizeof local == sizeof(napi_value));
  napi_value value;
  std::memcpy(&value, static_cast<void*>(&local), sizeof value);
  return value;
}

}  // namespace

void export_async_context(Napi::Env env, Napi::Object exports) {
  const v8::Local<v8::Context> context = v8::Isolate::GetCurrent()->GetCurrentContext();
  const auto define = [&](const char* name, v8::FunctionCallback callback) {
    v8::Local<v8::Function> function;
    if (v8::Function::New(context, callback).ToLocal(&function)) exports.Set(name, Napi::Value(env, from_v8(function)));
  };
  define("getAsyncContext", get_async_context);
  define("setAsyncContext", set_async_context);
}

#endif

}  // namespace onewait
