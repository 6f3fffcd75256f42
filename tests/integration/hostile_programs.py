"""Programs that try to harm, to escape, or to be called right without being so: by name, each the
text of a program whose function `f` should return a word that only its tests know.
"""

_DEFINES = "def f(x):\n    return None\n"

ENDS_EARLY = {
    "sys.exit": "import sys\nsys.exit(0)\n",
    "os._exit": "import os\nos._exit(0)\n",
    "SystemExit in the call": "def f(x):\n    raise SystemExit(0)\n",
    "os._exit in the call": "import os\ndef f(x):\n    os._exit(0)\n",
    "abort": "import os\nos.abort()\n",
    "an exception": "1 / 0\n" + _DEFINES,
    "an exception in the call": "def f(x):\n    raise ValueError('no')\n",
    "StopIteration": "def f(x):\n    raise StopIteration\n",
    "AssertionError": "def f(x):\n    raise AssertionError\n",
    "KeyboardInterrupt": "def f(x):\n    raise KeyboardInterrupt\n",
    "closed pipes": "import os\nos.closerange(0, 64)\n" + _DEFINES,
    "closed pipes in the call": "import os\ndef f(x):\n    os.closerange(0, 64)\n",
    "closed output": "import sys\nsys.stdout.close()\nsys.stdin.close()\n" + _DEFINES,
    "a segmentation fault": "import ctypes\ndef f(x):\n    ctypes.string_at(0)\n",
    "atexit": "import atexit, os\natexit.register(os._exit, 0)\n" + _DEFINES,
    "no program": "I would rather not.",
    "nothing but a comment": "# f\n",
}

NEVER_ENDS = {
    "a loop": "while True:\n    pass\n",
    "a loop in the call": "def f(x):\n    while True:\n        pass\n",
    "a loop that ignores signals": (
        "import signal\nfor n in range(1, 65):\n    try:\n        signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass\n"
    ),
    "sleep": "import time\ntime.sleep(1000)\n",
    "a wait for a lock": "import threading\nl = threading.Lock()\nl.acquire()\nl.acquire()\n",
    "a read that never ends": "import os\ndef f(x):\n    while os.read(4, 1):\n        pass\n",
    "a number that grows": "def f(x):\n    return 9 ** 9 ** 9\n",
    "an endless generator": "import itertools\ndef f(x):\n    return sum(itertools.count())\n",
}

TAKES_TOO_MUCH = {
    "a fork bomb": "import os\nwhile True:\n    os.fork()\n",
    "a fork by ctypes": "import ctypes\nfor _ in range(1000):\n    ctypes.CDLL(None).fork()\n" + _DEFINES,
    "threads": (
        "import threading, time\nfor _ in range(100_000):\n"
        "    threading.Thread(target=time.sleep, args=(1000,)).start()\n"
    ),
    "processes": "import multiprocessing\nmultiprocessing.Pool(8).map(abs, range(9))\n" + _DEFINES,
    "lists": "x = []\nwhile True:\n    x.append([0] * 10**6)\n",
    "a big list": "x = [0] * 10**11\n" + _DEFINES,
    "mmap": "import mmap\nx = [mmap.mmap(-1, 2**30) for _ in range(64)]\n" + _DEFINES,
    "a big answer": "def f(x):\n    return 'x' * 200_000_000\n",
    "recursion": "import sys\nsys.setrecursionlimit(10**8)\ndef f(x):\n    return f(x)\n",
    "a nested answer": "def f(x):\n    y = []\n    for _ in range(10**5):\n        y = [y]\n    return y\n",
    "an answer in itself": "def f(x):\n    y = []\n    y.append(y)\n    return y\n",
    "endless output": "while True:\n    print('x' * 10_000)\n",
    "endless errors": "import sys\nwhile True:\n    sys.stderr.write('x' * 10_000)\n",
    "files": "for n in range(10**6):\n    open(f'{n}', 'w').write('x' * 10**6)\n",
    "open files": "import os\nx = [os.open('/dev/null', 0) for _ in range(10**6)]\n" + _DEFINES,
    "higher limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))\n" + _DEFINES
    ),
    "deep brackets": "(" * 100_000,
}

LEAVES_THE_CAGE = {
    "a file of the system": "def f(x):\n    return open('/etc/passwd').read()\n",
    "the canary's file": "import os\ndef f(x):\n    os.unlink(CANARY)\n    return open(CANARY, 'w').write('')\n",
    "a folder": "import os\nos.makedirs('/tmp/hostile')\n" + _DEFINES,
    "a symbolic link": "import os\nos.symlink('/etc/passwd', 'here')\ndef f(x):\n    return open('here').read()\n",
    "a hard link": "import os\nos.link('/etc/passwd', '/tmp/here')\n" + _DEFINES,
    "a pipe of the file system": "import os\nos.mkfifo('/tmp/pipe')\n" + _DEFINES,
    "environment": "import os\ndef f(x):\n    return open('/proc/self/environ').read() + str(dict(os.environ))\n",
    "the parent's memory": "import os\ndef f(x):\n    return open(f'/proc/{os.getppid()}/mem', 'rb').read(9)\n",
    "own memory": "def f(x):\n    return open('/proc/self/mem', 'rb').read(9)\n",
    "a connection": "import socket\nsocket.create_connection(('127.0.0.1', 22))\n" + _DEFINES,
    "a server": "import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0hostile')\n" + _DEFINES,
    "the web": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9')\n" + _DEFINES,
    "a signal to the parent": "import os\nos.kill(os.getppid(), 9)\n" + _DEFINES,
    "a signal to the canary": "import os\nos.kill(CANARY_PID, 9)\n" + _DEFINES,
    "a signal to all": "import os\nos.kill(-1, 9)\n" + _DEFINES,
    "a signal by the kernel": (
        "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, 8, CANARY_PID)\nfcntl.fcntl(r, 10, 9)\n"
        "fcntl.fcntl(r, 4, os.O_ASYNC)\nos.write(w, b'x')\n" + _DEFINES
    ),
    "root": "import os\nos.setuid(0)\nos.seteuid(0)\n" + _DEFINES,
    "root's group": "import os\nos.setgid(0)\nos.setgroups([0])\n" + _DEFINES,
    "a shell": "import os\nos.system('touch /tmp/hostile')\n" + _DEFINES,
    "subprocess": "import subprocess\nsubprocess.run(['/bin/true'], check=True)\n" + _DEFINES,
    "exec": "import os\nos.execv('/bin/true', ['true'])\n",
    "ptrace": "import ctypes, os\nif ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == -1:\n    raise OSError\n",
    "process_vm_readv": "import ctypes\nif ctypes.CDLL(None).syscall(310, CANARY_PID, 0, 0, 0, 0, 0) == -1:\n    raise OSError\n",
    "mount": "import ctypes\nif ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None):\n    raise OSError\n",
    "unshare": "import ctypes\nif ctypes.CDLL(None).unshare(0x10000000):\n    raise OSError\n",
    "chroot": "import os\nos.chroot('/tmp')\n" + _DEFINES,
    "io_uring": "import ctypes\nif ctypes.CDLL(None).syscall(425, 8, ctypes.create_string_buffer(120)) < 0:\n    raise OSError\n",
    "the clock": "import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)\n" + _DEFINES,
    "priority": "import os\nos.setpriority(os.PRIO_PROCESS, CANARY_PID, 19)\n" + _DEFINES,
}

PRETENDS = {
    "an answer that equals all": (
        "class A:\n    def __eq__(self, o):\n        return True\n    def __ne__(self, o):\n        return False\n"
        "    def __bool__(self):\n        return True\ndef f(x):\n    return A()\n"
    ),
    "a text that equals all": (
        "class A(str):\n    def __eq__(self, o):\n        return True\n    __hash__ = str.__hash__\n"
        "def f(x):\n    return A('no')\n"
    ),
    "a list that equals all": "class A(list):\n    def __eq__(self, o):\n        return True\ndef f(x):\n    return A()\n",
    "a class of another name": (
        "class A:\n    @property\n    def __class__(self):\n        return str\n    def __eq__(self, o):\n"
        "        return True\ndef f(x):\n    return A()\n"
    ),
    "other builtins": (
        "import builtins\nfor n in ('all', 'any', 'isinstance', 'abs', 'len', 'sorted'):\n"
        "    setattr(builtins, n, lambda *a, **k: True)\n" + _DEFINES
    ),
    "no assertions": "import builtins\nbuiltins.AssertionError = type('A', (BaseException,), {})\n" + _DEFINES,
    "other modules": "import sys, math, json\nsys.modules['tests'] = math\njson.dumps = lambda *a: '{}'\n" + _DEFINES,
    "the server's modules": (
        "import sys\nm = sys.modules['restmcts.adapters.sandbox.checking_process']\nm.run_tests = lambda: 0\n"
        "m._Count.fail = m._Count.passed\n" + _DEFINES
    ),
    "a report of its own": (
        "import os\nfor n in range(3, 64):\n    try:\n        os.write(n, "
        'b\'{"passed": 9, "tests": 9, "failure": "", "broken": ""}\')\n'
        "    except OSError:\n        pass\n" + _DEFINES
    ),
    "answers before they are asked for": (
        "import os, json\ndef m(o):\n    b = json.dumps(o).encode()\n    os.write(5, len(b).to_bytes(4, 'big') + b)\n"
        "for _ in range(99):\n    m({'value': True, 'arguments': {'list': []}})\n" + _DEFINES
    ),
    "frames": (
        "import sys\ndef f(x):\n    g, s = sys._getframe(), ''\n    while g:\n        s += repr(g.f_locals) + repr(g.f_globals)\n"
        "        g = g.f_back\n    return s[s.find('secret-'):][:15]\n"
    ),
    "objects in memory": (
        "import gc\ndef f(x):\n    for o in gc.get_objects():\n        s = repr(o)[:10**5]\n        if 'secret-' in s[:]:\n"
        "            return s[s.find('secret-'):][:15]\n"
    ),
    "its own heap": (
        "import ctypes\ndef f(x):\n    a = id(object())\n    b = ctypes.string_at(a - 4096 * 16, 4096 * 32)\n"
        "    i = b.find(b'sec' + b'ret-')\n    return b[i:i + 15].decode('latin-1') if i >= 0 else None\n"
    ),
    "a trace": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\n" + _DEFINES,
    "a finder of modules": (
        "import sys\nclass A:\n    def find_spec(*a):\n        raise SystemExit(0)\n"
        "sys.meta_path.insert(0, A())\nimport nothing\n"
    ),
    "not a number": "def f(x):\n    return float('nan')\n",
    "a changed argument": "def f(x):\n    return x\n",
    "unreadable data": "import os\nos.write(5, b'\\xff' * 9000)\n" + _DEFINES,
}

HOSTILE_PROGRAMS = {**ENDS_EARLY, **NEVER_ENDS, **TAKES_TOO_MUCH, **LEAVES_THE_CAGE, **PRETENDS}
