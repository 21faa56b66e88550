/* Stands for zfs(8), whose kernel module is no part of a test: keystatus and load-key of one dataset, with the words,
 * the terminal and the exit statuses of OpenZFS 2.3.2 (lib/libzfs/libzfs_crypto.c). Its passphrase and its state are
 * the files `passphrase` and `loaded` beside the program. */
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static char directory[4096];

static const char *beside(const char *name) {
    static char path[8192];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static int line(FILE *from, char *text, int size) {
    if (!fgets(text, size, from))
        return -1;
    text[strcspn(text, "\n")] = 0;
    return (int) strlen(text);
}

static int try_one(const char *dataset) {
    char given[600] = "", right[600] = "";
    struct termios before, silent;
    int terminal = isatty(0);
    if (terminal) {
        printf("Enter passphrase for '%s':", dataset);
        fflush(stdout);
        tcgetattr(0, &before);
        silent = before;
        silent.c_lflag &= ~(ECHO | ECHOE | ECHOK | ECHONL);
        tcsetattr(0, TCSAFLUSH, &silent);
    }
    int length = line(stdin, given, sizeof given);
    if (terminal)
        tcsetattr(0, TCSAFLUSH, &before);
    if (length < 8) {
        fprintf(stderr, "Key load error: Passphrase too short (min 8).\n");
        return -1;
    }
    FILE *file = fopen(beside("passphrase"), "r");
    line(file, right, sizeof right);
    if (strcmp(given, right) != 0) {
        fprintf(stderr, "Key load error: Incorrect key provided for '%s'.\n", dataset);
        return -1;
    }
    return fclose(fopen(beside("loaded"), "w"));
}

int main(int count, char **words) {
    readlink("/proc/self/exe", directory, sizeof directory - 1);
    dirname(directory);
    int loaded = access(beside("loaded"), F_OK) == 0;
    if (count == 7 && strcmp(words[1], "get") == 0) {
        puts(loaded ? "available" : "unavailable");
        return 0;
    }
    if (count != 3 || strcmp(words[1], "load-key") != 0)
        return 2;
    if (loaded) {
        fprintf(stderr, "Key load error: Key already loaded for '%s'.\n", words[2]);
        return 255;
    }
    for (int attempt = 0; attempt < (isatty(0) ? 3 : 1); attempt++)
        if (try_one(words[2]) == 0)
            return 0;
    return 255;
}
