"""A process of ours that does its work once for each line it reads, and answers with the seconds it took."""

import json
import subprocess


class Served:
    """`command` prints `ready` when it has begun; `how` goes to Popen."""

    def __init__(self, command, **how):
        command = list(map(str, command))
        self.process = subprocess.Popen(
            command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **how
        )
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{' '.join(command)} failed; its message is above")

    def seconds(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["seconds"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()
