// What a busy time has left behind, given back when nothing happens any more.
//
// V8 collects when memory is asked for, or some seconds after it has done so. A server whose connections have fallen silent asks for none, and may
// keep what the busy time has made of its young generation, up to 48 MiB: more than thousands of suspended coroutines hold. Who knows that nothing happens is the loop, and V8 has a
// call for it. It marks in steps of a few milliseconds and on threads of its own. The runtimes of Go and Bun do this by the clock. Pages that one
// collection has emptied V8 keeps, in case it needs some soon, until the next: there are two.
//
// A collection that is to save memory costs more than its time: V8 lets go of the shapes of objects of which there are none just now, and of the code
// that was compiled for them. A server without connections would compile for a third of a second when they come back, which is too much for 3 MiB.
#pragma once

#include <v8.h>

#include <cstring>

namespace onewait {

/**
 * Whether a collection can give back some MiB of V8's young generation, or of `read_memory`, in bytes: more of them, if so few `descriptors` are
 * watched that hardly anybody is connected.
 */
inline bool worth_collecting(v8::Isolate* isolate, size_t read_memory, size_t descriptors) {
  constexpr size_t kSome = 16;
  const size_t worthwhile = (descriptors >= kSome ? 2 : 8) * 1024 * 1024;  // it begins with 1
  constexpr size_t kInUse = 4 * 1024 * 1024;  // a page and a slab that are being read into, each in a region of 2 MiB
  for (size_t i = 0; i < isolate->NumberOfHeapSpaces(); ++i) {
    v8::HeapSpaceStatistics space;
    if (!isolate->GetHeapSpaceStatistics(&space, i) || std::strcmp(space.space_name(), "new_space") != 0) continue;
    return space.space_size() >= worthwhile || read_memory >= kInUse + worthwhile;
  }
  return false;
}

/** Has V8 collect, in its own time. */
inline void collect(v8::Isolate* isolate) {
  isolate->MemoryPressureNotification(v8::MemoryPressureLevel::kModerate);
  isolate->MemoryPressureNotification(v8::MemoryPressureLevel::kNone);
}

}  // namespace onewait
