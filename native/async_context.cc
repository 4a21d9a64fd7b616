#include "async_context.h"

#include <node_version.h>

#include "bare_function.h"

namespace onewait {

#if NODE_MAJOR_VERSION >= 24

void export_async_context(Napi::Env, Napi::Object) {}

#else

namespace {

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

}  // namespace

void export_async_context(Napi::Env env, Napi::Object exports) {
  export_bare(env, exports, "getAsyncContext", get_async_context);
  export_bare(env, exports, "setAsyncContext", set_async_context);
}

#endif

}  // namespace onewait
