/* Preloaded into systemd-cryptsetup where there is no device mapper: a passphrase or key is tried on the real volume,
 * and when it fits, the fixture's picture of the mapping is put in its place. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int crypt_activate_by_passphrase(void *device, const char *name, int slot, const char *text, size_t length,
                                 uint32_t flags) {
    int (*try)(void *, const char *, int, const char *, size_t, uint32_t) =
        dlsym(RTLD_NEXT, "crypt_activate_by_passphrase");
    int result = try(device, NULL, slot, text, length, flags);
    (void) name;
    if (result >= 0 && rename(getenv("TRIAL_CLOSED"), getenv("TRIAL_OPEN")) != 0)
        abort();
    return result;
}
