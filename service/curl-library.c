/* SPDX-License-Identifier: MIT */
/* The one library that is looked up by name. Its soname is part of its ABI promise. */

#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt

#include <dlfcn.h>

#include "curl-library.h"

const char *curl_library_load(CurlLibrary *ret) {
        void *library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);

        if (!library)
                return dlerror();
#define LOOK_UP(function)                                                       \
  ret->function = (__typeof__(ret->function))dlsym(library, "curl_" #function); \
  if (!ret->function)                                                           \
    return "libcurl.so.4 lacks curl_" #function;
        CURL_FUNCTIONS(LOOK_UP)
#undef LOOK_UP
        if (ret->global_init(CURL_GLOBAL_NOTHING) != CURLE_OK) /* no TLS: nothing of it is set up */
                return "libcurl could not be set up";
        return NULL;
}
