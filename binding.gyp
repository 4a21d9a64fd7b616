{
  # The addon alone. The benchmark's servers are built by bench/ itself, so that who installs the package never compiles them.
  # node-gyp rebuild -- -Dsanitize=1 builds with AddressSanitizer and UndefinedBehaviorSanitizer.
  'variables': { 'sanitize%': 0 },
  'targets': [{
    'target_name': 'onewait',
    'sources': [
      'native/addon.cc',
      'native/async_context.cc',
      'native/blocking_threads.cc',
      'native/call_ring.cc',
      'native/epoll_poller.cc',
      'native/host.cc',
      'native/memory_pool.cc',
      'native/poll_poller.cc',
      'native/select_poller.cc',
      'native/sockets.cc',
      'native/trace.cc',
      'native/turn.cc',
      'native/watchdog.cc',
    ],
    'include_dirs': ["<!(node -p \"require('node-addon-api').include_dir\")"],
    'defines': ['NAPI_VERSION=9', 'NODE_ADDON_API_DISABLE_DEPRECATED', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
      'NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS'],
    'cflags!': ['-fno-omit-frame-pointer'],
    'cflags_cc!': ['-std=gnu++17', '-std=gnu++20', '-fno-rtti'],
    'cflags_cc': [
      '-std=c++20', '-O2', '-Wall', '-Wextra', '-Werror', '-Wno-unused-parameter', '-Wno-cast-function-type', '-fno-exceptions',
      '-fstack-protector-strong', '-fvisibility=hidden',
    ],
    # Never unloaded: V8 gives the slabs of a worker back when it disposes of the isolate, after Node has closed the worker's addons.
    'ldflags': ['-Wl,-z,relro,-z,now', '-Wl,-z,noexecstack', '-Wl,-z,nodelete'],
    'conditions': [
      ["sanitize==1", {
        'cflags_cc': ['-fsanitize=address,undefined', '-fno-sanitize-recover=undefined', '-fno-omit-frame-pointer', '-g'],
        'ldflags': ['-fsanitize=address,undefined'],
      }, {
        'defines': ['_FORTIFY_SOURCE=2'],
      }],
    ],
  }],
}
