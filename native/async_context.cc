#include "async_context.h"

#include <node_version.h>
#include <v8.h>

#include <cstring>

namespace onewait {

#if NODE_MAJOR_VERSION >= 24

void export_async_context(Napi::Env, Napi::Object) {}

#else

namespace {

// napi_value is a v8::Local in every release of Node (js_native_api_v8.h); N-API has no name for it, so it is copied bit by bit.
static_assert(sizeof(v8::Local<v8::Value>) == sizeof(napi_value));

v8::Local<v8::Value> to_v8(napi_value value) {
  v8::Local<v8::Value> local;
  std::memcpy(static_cast<void*>(&local), &value, sizeof value);
  return local;
}

napi_value from_v8(v8::Local<v8::Value> local) {
  napi_value value;
  std::memcpy(&value, static_cast<void*>(&local), sizeof value);
  return value;
}

napi_value get_async_context(napi_env, napi_callback_info) {
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
#if V8_MAJOR_VERSION >= 12
  return from_v8(isolate->GetContinuationPreservedEmbedderData());
#else
  return from_v8(isolate->GetCurrentContext()->GetContinuationPreservedEmbedderData());
#endif
}

napi_value set_async_context(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value value;
  if (napi_get_cb_info(env, info, &count, &value, nullptr, nullptr) != napi_ok) return nullptr;
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
#if V8_MAJOR_VERSION >= 12
  isolate->SetContinuationPreservedEmbedderData(to_v8(value));
#else
  isolate->GetCurrentContext()->SetContinuationPreservedEmbedderData(to_v8(value));
#endif
  return nullptr;
}

}  // namespace

void export_async_context(Napi::Env env, Napi::Object exports) {
  // Plain N-API functions: the wrapper of node-addon-api would double the price of the one call made per awaited operation.
  napi_value function;
  napi_create_function(env, "getAsyncContext", NAPI_AUTO_LENGTH, get_async_context, nullptr, &function);
  exports.Set("getAsyncContext", function);
  napi_create_function(env, "setAsyncContext", NAPI_AUTO_LENGTH, set_async_context, nullptr, &function);
  exports.Set("setAsyncContext", function);
}

#endif

}  // namespace onewait
