/* The init of a guest that has nothing else: it says READY=1, as in sd_notify(3), and ends by SIGRTMIN+3. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);

    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, getenv("NOTIFY_SOCKET"), sizeof address.sun_path - 1);
    int notify = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (sendto(notify, "READY=1", 7, 0, (struct sockaddr *)&address, sizeof address) != 7)
        return 1;

    while (sigwaitinfo(&all, NULL) != SIGRTMIN + 3) {
    }
    return 0;
}
