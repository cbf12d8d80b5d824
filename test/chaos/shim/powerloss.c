// powerloss: what a loss of power would leave of redis-server's files. Preloaded
// into it, this writes for each file how long it was when its last fsync or
// fdatasync began, to $POWERLOSS_DIR/<name of the file>. After a SIGKILL the file is
// cut to that length. A sync takes 2 ms longer than it would, as on a disk, so that
// power is also lost in the middle of one.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void note(int fd, off_t size) {
	const char *dir = getenv("POWERLOSS_DIR");
	char link[64], path[4096], record[8192], text[32];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof path - 1);
	if (!dir || n <= 0) return;
	path[n] = 0;
	const char *slash = strrchr(path, '/');
	snprintf(record, sizeof record, "%s/%s", dir, slash ? slash + 1 : path);
	int out = open(record, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (out < 0) abort();
	// One write of one length, so that a kill leaves the old text or the new one.
	int length = snprintf(text, sizeof text, "%020lld\n", (long long)size);
	if (pwrite(out, text, length, 0) != length) abort();
	close(out);
}

static int synced(const char *call, int fd) {
	int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, call);
	struct stat s;
	int known = fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
	usleep(2000);
	int result = sync(fd);
	if (result == 0 && known) note(fd, s.st_size);
	return result;
}

int fsync(int fd) { return synced("fsync", fd); }

int fdatasync(int fd) { return synced("fdatasync", fd); }
