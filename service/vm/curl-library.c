/* SPDX-License-Identifier: MIT */
/* The one library that is looked up by name. Its soname is part of its ABI promise. */

#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt

#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm/curl-library.h"

/* Loading looks at nearly every page of thirty libraries, of which a plain HTTP request needs a few.
 * What is mapped read-only comes back from the file by itself when it is touched again. */
static int give_back_pages(struct dl_phdr_info *info, size_t size, void *userdata) {
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

        for (int i = 0; i < info->dlpi_phnum; i++) {
                const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
                uintptr_t begin = (info->dlpi_addr + segment->p_vaddr + page - 1) & ~(page - 1);
                uintptr_t end = (info->dlpi_addr + segment->p_vaddr + segment->p_filesz) &
                                ~(page - 1);

                if (segment->p_type == PT_LOAD && !(segment->p_flags & PF_W) && end > begin)
                        (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
        }
        return 0;
}

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
        (void)dl_iterate_phdr(give_back_pages, NULL);
        return NULL;
}
