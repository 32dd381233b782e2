/* SPDX-License-Identifier: MIT */
#pragma once

/* libcurl, loaded when the first VMM is to be spoken to. Linked, it and the thirty libraries that
 * come with it would make a service that mostly waits four times as large. */

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>

#define CURL_FUNCTIONS(F) \
  F(global_init)          \
  F(global_cleanup)       \
  F(easy_init)            \
  F(easy_setopt)          \
  F(easy_getinfo)         \
  F(easy_cleanup)         \
  F(slist_append)         \
  F(slist_free_all)       \
  F(multi_init)           \
  F(multi_setopt)         \
  F(multi_cleanup)        \
  F(multi_add_handle)     \
  F(multi_remove_handle) F(multi_socket_action) F(multi_assign) F(multi_info_read)

#define CURL_MEMBER(name) __typeof__(curl_##name) *name;
typedef struct CurlLibrary {
        CURL_FUNCTIONS(CURL_MEMBER)
} CurlLibrary;
#undef CURL_MEMBER

/* Blocks (reads files); once loaded it stays. NULL on success, else what is wrong. */
const char *curl_library_load(CurlLibrary *ret);
