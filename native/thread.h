// Threads of our own: small, deaf to signals, and no exception where the system has no room for another, which would end the process.
#pragma once

#include <pthread.h>

#include <csignal>
#include <cstddef>

namespace onewait {

/** Runs `body(argument)` in a new thread. 0, or -errno of pthread_create(3). */
inline int start_thread(pthread_t* thread, void* (*body)(void*), void* argument) {
  constexpr size_t kStackBytes = 128 * 1024;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  // Signals belong to the program's own threads; a new one inherits the mask.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int error = pthread_create(thread, &attributes, body, argument);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  return -error;
}

}  // namespace onewait
