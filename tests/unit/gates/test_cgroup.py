"""Container limits, read from trees of files as kernels and container engines lay them out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.gates.cgroup import Cgroup, CpuQuota, MemoryLimit

V2_MOUNT = "29 22 0:26 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
UNLIMITED_V1 = "9223372036854771712"


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Cgroup(root)


def v2(root, own, files, top="/"):
    base = {"proc/self/cgroup": f"0::{own}\n", "proc/self/mountinfo": V2_MOUNT.format(top=top)}
    return tree(root, base | {f"sys/fs/cgroup/{name}": text for name, text in files.items()})


def limits(folder, cpu="max 100000", memory="max", used="0"):
    return {
        f"{folder}cpu.max": f"{cpu}\n",
        f"{folder}cpu.stat": "usage_usec 7000000\nuser_usec 1\nsystem_usec 2\n",
        f"{folder}memory.max": f"{memory}\n",
        f"{folder}memory.current": f"{used}\n",
        f"{folder}memory.stat": "anon 1\ninactive_file 100\nactive_file 3\n",
    }


def test_v2_in_a_container_with_its_own_namespace(tmp_path):
    found = v2(tmp_path, "/", limits("", "150000 100000", "1000", "700"))
    assert found.cpu() == CpuQuota(1.5, 7_000_000_000)
    assert found.memory() == MemoryLimit(1000, 600)


def test_v2_without_limits(tmp_path):
    found = v2(tmp_path, "/", limits(""))
    assert found.cpu() is None
    assert found.memory() is None


def test_v2_the_tightest_group_on_the_way_up_counts_with_its_own_use(tmp_path):
    files = (
        limits("pod/app/", "400000 100000", "5000", "300")
        | limits("pod/", "50000 100000", "2000", "1500")
        | limits("other/", "1000 100000", "1", "1")
    )
    found = v2(tmp_path, "/pod/app", files)
    assert found.cpu() == CpuQuota(0.5, 7_000_000_000)
    assert found.memory() == MemoryLimit(2000, 1400)


def test_v2_when_the_mount_shows_only_the_containers_own_group(tmp_path):
    found = v2(tmp_path, "/docker/abc", limits("", "200000 100000"), top="/docker/abc")
    assert found.cpu() == CpuQuota(2.0, 7_000_000_000)


@pytest.mark.parametrize("own", ["/../../other", "/docker/gone"])
def test_v2_names_of_another_namespace_fall_back_to_what_is_mounted(tmp_path, own):
    found = v2(tmp_path, own, limits("", "200000 100000"))
    assert found.cpu() == CpuQuota(2.0, 7_000_000_000)


def v1(root, own, files, *, cpu="cpu,cpuacct", top="/"):
    mounts = [
        f"33 25 0:29 {top} /sys/fs/cgroup/{cpu} rw,nosuid - cgroup cgroup rw,{cpu}",
        f"34 25 0:30 {top} /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory",
        "35 25 0:31 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw",
    ]
    own_groups = [f"4:{cpu}:{own}", f"3:memory:{own}", "2:name=systemd:/", "0::/"]
    base = {
        "proc/self/cgroup": "\n".join(own_groups),
        "proc/self/mountinfo": "\n".join(mounts),
        "sys/fs/cgroup/unified/cgroup.procs": "",
    }
    return tree(root, base | {f"sys/fs/cgroup/{name}": text for name, text in files.items()})


def test_v1_in_a_container(tmp_path):
    found = v1(
        tmp_path,
        "/docker/abc",
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "25000\n",
            "cpu,cpuacct/cpu.cfs_period_us": "50000\n",
            "cpu,cpuacct/cpuacct.usage": "123456789\n",
            "memory/memory.limit_in_bytes": "4096\n",
            "memory/memory.usage_in_bytes": "4000\n",
            "memory/memory.stat": "cache 9\ninactive_file 5\ntotal_inactive_file 1000\n",
        },
        top="/docker/abc",
    )
    assert found.cpu() == CpuQuota(0.5, 123456789)
    assert found.memory() == MemoryLimit(4096, 3000)


def test_v1_without_limits(tmp_path):
    found = v1(
        tmp_path,
        "/",
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "cpu,cpuacct/cpuacct.usage": "1\n",
            "memory/memory.limit_in_bytes": f"{UNLIMITED_V1}\n",
            "memory/memory.usage_in_bytes": "1\n",
        },
    )
    assert found.cpu() is None
    assert found.memory() is None


def test_v1_with_processor_and_its_account_in_different_groups(tmp_path):
    found = tree(
        tmp_path,
        {
            "proc/self/cgroup": "2:cpuacct:/\n1:cpu:/quick\n",
            "proc/self/mountinfo": "1 0 0:1 / /cpu rw - cgroup cgroup rw,cpu\n"
            "2 0 0:2 / /acct rw - cgroup cgroup rw,cpuacct\n",
            "cpu/quick/cpu.cfs_quota_us": "25000\n",
            "cpu/quick/cpu.cfs_period_us": "50000\n",
            "acct/cpuacct.usage": "123456789\n",
        },
    )
    assert found.cpu() is None


def test_a_limit_that_is_set_or_lifted_later_is_found_by_a_refresh(tmp_path):
    found = v2(tmp_path, "/", limits(""))
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("50000 100000\n")
    assert found.cpu() is None
    found.refresh()
    assert found.cpu() == CpuQuota(0.5, 7_000_000_000)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    assert found.cpu() is None


def test_a_limit_that_changes_counts_at_once(tmp_path):
    found = v2(tmp_path, "/", limits("", "100000 100000"))
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("300000 100000\n")
    assert found.cpu() == CpuQuota(3.0, 7_000_000_000)


def test_bare_machines_have_no_groups(tmp_path):
    found = tree(tmp_path, {})
    assert found.cpu() is None
    assert found.memory() is None
    assert found.stalled_us("cpu") is None


STALL = "some avg10=1.00 avg60=0.50 avg300=0.10 total={}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n"


def machine_stalls(root):
    (root / "proc/pressure").mkdir(parents=True)
    (root / "proc/pressure/cpu").write_text(STALL.format(999))
    (root / "proc/pressure/memory").write_text(STALL.format(55))


def test_stall_times_are_the_groups_where_there_are_some(tmp_path):
    machine_stalls(tmp_path)
    files = limits("") | {"cpu.pressure": STALL.format(77), "cgroup.type": "domain\n"}
    found = v2(tmp_path, "/", files)
    assert found.stalled_us("cpu") == 77
    assert found.stalled_us("memory") == 55
    assert found.stalled_us("io") is None


def test_the_topmost_group_is_the_machine(tmp_path):
    machine_stalls(tmp_path)
    found = v2(tmp_path, "/", {"cpu.pressure": STALL.format(77)})
    assert found.stalled_us("cpu") == 999


def test_with_a_limit_of_its_own_the_machines_stall_times_say_nothing(tmp_path):
    machine_stalls(tmp_path)
    found = v2(tmp_path, "/", limits("", "50000 100000"))
    assert found.stalled_us("cpu") is None
    assert found.stalled_us("memory") == 55


def test_a_mount_point_with_a_space(tmp_path):
    found = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": "29 22 0:26 / /c\\040groups rw - cgroup2 none rw\n",
            "c groups/cpu.max": "100000 100000\n",
            "c groups/cpu.stat": "usage_usec 1\n",
        },
    )
    assert found.cpu() == CpuQuota(1.0, 1000)


@pytest.mark.parametrize(
    "broken", ["", "max", "0 0", "x y", "-5 100000", "100000 0", "\x00", "9" * 50]
)
def test_files_with_nonsense_set_no_limit(tmp_path, broken):
    found = v2(tmp_path, "/", limits("", broken, broken, broken))
    assert found.cpu() is None
    assert found.memory() is None


def test_a_quota_without_its_period_is_none(tmp_path):
    assert v2(tmp_path, "/", limits("", "100000")).cpu() is None


def test_a_folder_in_place_of_a_file_is_no_reading(tmp_path):
    (tmp_path / "sys/fs/cgroup/cpu.max").mkdir(parents=True)
    files = limits("")
    del files["cpu.max"]
    assert v2(tmp_path, "/", files).cpu() is None


@given(st.text(), st.text())
def test_whatever_proc_says_it_does_not_fail(tmp_path_factory, groups, mounts):
    root = tmp_path_factory.mktemp("root")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups, errors="replace")
    (root / "proc/self/mountinfo").write_text(mounts, errors="replace")
    found = Cgroup(root)
    found.cpu()
    found.memory()
