// Who is running? A task's identity in `await` style.
//
// V8 carries one value, the continuation-preserved embedder data, from where a promise is awaited to where its
// continuation runs. Setting it to the task when an async function starts makes `current` right everywhere inside that
// function, also behind promises that are not ours, for 10 ns a look and nothing per await. From Node 24 on
// AsyncLocalStorage is built on the same slot; there it belongs to Node, and these functions are not exported.
#pragma once

#include <napi.h>

namespace onewait {

void export_async_context(Napi::Env env, Napi::Object exports);

}  // namespace onewait
