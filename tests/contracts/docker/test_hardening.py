"""What a job's container may not do, seen from inside and as the engine tells it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from plugins.executors.docker import DockerConfig, DockerExecutor
from scalemesh.errors import RefusedError
from scalemesh.values import EndCause
from tests.contracts.docker.conftest import Run
from tests.contracts.executor.places.docker import DockerPlace
from tests.contracts.executor.processes import eventually
from tests.contracts.executor.stand_in import MIB, limits
from tests.rigs.docker import docker

pytestmark = pytest.mark.timeout(300)

LOOK = """
    import json
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
    def may_write(path):
        try:
            open(path, "w").close()
            return True
        except OSError:
            return False
    print(json.dumps({
        "uid": os.getuid(), "groups": os.getgroups(), "capabilities": status["CapEff"], "bounding": status["CapBnd"],
        "no_new_privileges": status["NoNewPrivs"], "seccomp": status["Seccomp"],
        "root": may_write("/x"), "usr": may_write("/usr/x"), "tmp": may_write("/tmp/x"), "work": may_write("/work/x"),
        "sockets": may_write("/run/scalemesh/x"), "engine": os.path.exists("/var/run/docker.sock"),
        "devices": sorted(os.listdir("/dev")), "host": os.uname().nodename,
    }))
"""


async def test_a_job_has_no_rights_and_writes_only_where_it_works(run: Run) -> None:
    end, said = await run(LOOK)
    assert end.cause is EndCause.OK, said
    seen = json.loads(said)
    assert (seen["uid"], seen["groups"]) == (1000, [1000])
    assert (seen["capabilities"], seen["bounding"]) == ("0000000000000000", "0000000000000000")
    assert (seen["no_new_privileges"], seen["seccomp"]) == ("1", "2")
    assert [name for name in ("root", "usr", "tmp", "work", "sockets") if seen[name]] == ["tmp", "work"]
    assert not seen["engine"]
    assert not set(seen["devices"]) & {"sda", "vda", "kmsg", "mem", "kvm", "fuse"}


async def test_the_engine_holds_a_job_to_its_limits(executor: DockerExecutor, place: DockerPlace) -> None:
    within = limits(memory_mib=128, pids=33, cpu_weight=50)
    ref = await executor.start(place.job("time.sleep(1000)", within=within))
    (facts,) = json.loads(docker("inspect", ref.where))
    held = facts["HostConfig"]
    assert held["Memory"] == held["MemorySwap"] == 128 * MIB
    assert (held["PidsLimit"], held["CpuShares"], held["OomScoreAdj"]) == (33, 512, 500)
    assert (held["ReadonlyRootfs"], held["Privileged"], held["CapDrop"], held["CapAdd"]) == (True, False, ["ALL"], None)
    assert held["SecurityOpt"] == ["no-new-privileges"]
    assert held["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "16m", "max-file": "1"}}
    assert held["RestartPolicy"]["Name"] in ("", "no")
    assert held["Init"]
    assert (held["PidMode"], held["IpcMode"], held["UTSMode"], held["UsernsMode"]) == ("", "private", "", "")


async def test_processors_are_limited_where_that_is_set(place: DockerPlace) -> None:
    place.config = replace(place.config, cpus=0.5)
    async with place.open() as executor:
        ref = await executor.start(place.job("time.sleep(1000)"))
        (facts,) = json.loads(docker("inspect", ref.where))
        assert facts["HostConfig"]["NanoCpus"] == 500_000_000
        await executor.stop(ref)


async def test_a_job_is_told_nothing_of_the_docker_clients_own_proxies(
    place: DockerPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such addresses often hold a password; the docker program itself puts them into every container."""
    settings = tmp_path / "client"
    settings.mkdir()
    proxies = {"default": {"httpProxy": "http://user:word@proxy.test:3128", "noProxy": "none.test"}}
    (settings / "config.json").write_text(json.dumps({"proxies": proxies}))
    monkeypatch.setenv("DOCKER_CONFIG", str(settings))
    image = place.config.image
    attack = docker("run", "--rm", "--entrypoint", "/usr/bin/env", image)
    assert "user:word@proxy.test" in attack
    async with place.open() as executor:
        ref = await executor.start(place.job("print(sorted(os.environ))"))
        await executor.wait(ref)
        said = docker("logs", ref.where)
        await executor.stop(ref)
    assert "SCALEMESH_URL" in said
    assert "proxy" not in said.lower()


async def test_what_the_operator_shares_with_builds_is_there_and_cannot_be_written(
    place: DockerPlace, tmp_path: Path
) -> None:
    authorities, root = tmp_path / "ca.pem", tmp_path / "repositories"
    authorities.write_text("an authority")
    for name in ("own", "others"):
        (root / name).mkdir(parents=True)
        (root / name / "HEAD").write_text("a repository")
    (root / "named").symlink_to("own")
    place.config = replace(place.config, ca_bundle=str(authorities), file_root=str(root), labels={"team": "web"})
    program = f"""
        print(open(os.environ["SCALEMESH_CA"]).read(), open("{root}/named/HEAD").read(), os.listdir("{root}"))
        for path in (os.environ["SCALEMESH_CA"], "{root}/named/HEAD", "{root}/named/new"):
            try:
                open(path, "w")
            except OSError as error:
                print(error.strerror)
    """
    async with place.open() as executor:
        ref = await executor.start(replace(place.job(program), repository=f"{root}/named"))
        assert (await executor.wait(ref)).cause is EndCause.OK
        said = docker("logs", ref.where).splitlines()
        for kind in ("container", "volume"):
            (facts,) = json.loads(docker(kind, "inspect", ref.where))
            assert (facts.get("Labels") or facts["Config"]["Labels"])["team"] == "web"
        await executor.stop(ref)
    assert said == ["an authority a repository ['named']", *["Read-only file system"] * 3]


async def test_a_build_from_elsewhere_sees_no_repository_of_this_machine(place: DockerPlace, tmp_path: Path) -> None:
    root = tmp_path / "repositories"
    (root / "others").mkdir(parents=True)
    place.config = replace(place.config, file_root=str(root))
    async with place.open() as executor:
        ref = await executor.start(place.job(f"print(os.path.exists('{root}'))"))
        await executor.wait(ref)
        assert docker("logs", ref.where) == "False"
        await executor.stop(ref)


async def test_a_repository_that_became_a_link_to_elsewhere_is_refused(place: DockerPlace, tmp_path: Path) -> None:
    root = tmp_path / "repositories"
    root.mkdir()
    (root / "site.git").symlink_to("/etc")
    place.config = replace(place.config, file_root=str(root))
    async with place.open() as executor:
        with pytest.raises(RefusedError, match=r"outside git\.file_root"):
            await executor.start(replace(place.job("sys.exit(0)"), repository=f"{root}/site.git"))
    assert await place.leftovers() == []


def test_labels_of_the_operator_cannot_be_taken_for_ours() -> None:
    with pytest.raises(ValueError, match="are our own"):
        DockerConfig(labels={"scalemesh.owner": "0" * 12})


async def test_a_flood_of_output_fills_no_disk(executor: DockerExecutor, place: DockerPlace) -> None:
    place.config = replace(place.config, log_mib=1)
    async with place.open() as bounded:
        program = (
            "for _ in range(3000): sys.stdout.write('flood ' * 2000 + '\\n')\nsys.stdout.flush(); time.sleep(1000)"
        )
        ref = await bounded.start(place.job(program))

        async def flooded() -> bool:
            return len(docker("logs", "--tail", "50", ref.where)) > 100_000

        await eventually(flooded)
        assert len(docker("logs", ref.where)) < 3 * MIB
        await bounded.stop(ref)


async def test_with_a_root_start_only_what_makes_a_second_user_is_left(place: DockerPlace) -> None:
    place.config = replace(place.config, start_as_root=True)
    program = """
        status = open("/proc/self/status").read()
        print(os.getuid(), status.split("CapEff:\\t")[1].split()[0])
        words = ["setpriv", "--reuid=1001", "--regid=1001", "--clear-groups", "--no-new-privs", "--inh-caps=-all"]
        sys.stdout.flush()
        inside = "grep -E 'Cap(Eff|Prm|Bnd)' /proc/self/status; id -u; cat /proc/1/environ /proc/$PPID/environ"
        subprocess.run([*words, "--bounding-set=-all", "--", "sh", "-c", inside], stderr=subprocess.STDOUT)
    """
    async with place.open() as executor:
        ref = await executor.start(place.job(program))
        assert (await executor.wait(ref)).cause is EndCause.OK
        said = docker("logs", ref.where)
        await executor.stop(ref)
    # CHOWN, DAC_OVERRIDE, KILL, SETGID, SETUID, SETPCAP: bits 0, 1, 5, 6, 7, 8
    assert said.splitlines()[0] == "0 00000000000001e3"
    assert said.count("0000000000000000") == 3
    assert "1001" in said
    assert said.count("Permission denied") == 2
    assert "SCALEMESH_TOKEN" not in said


async def test_an_image_that_is_not_there_is_refused_with_the_fix(place: DockerPlace) -> None:
    place.config = replace(place.config, image="scalemesh-nowhere:1")
    async with place.open() as executor:
        with pytest.raises(RefusedError, match="no image scalemesh-nowhere:1") as told:
            await executor.start(place.job("sys.exit(0)"))
        assert "scalemesh builder image build" in told.value.fix
        findings = await executor.check()
        assert [finding.what for finding in findings if not finding.ok] == [
            "there is no image scalemesh-nowhere:1 in the docker engine"
        ]
    assert await place.leftovers() == []


async def test_an_image_of_another_builder_is_refused_with_the_fix(place: DockerPlace) -> None:
    container = docker("create", "--label", "x", place.config.image)
    docker("commit", "--change", "LABEL scalemesh.builder=0123456789ab", container, "scalemesh-other:1")
    docker("rm", container)
    try:
        place.config = replace(place.config, image="scalemesh-other:1")
        async with place.open() as executor:
            with pytest.raises(RefusedError, match="holds builder 0123456789ab"):
                await executor.start(place.job("sys.exit(0)"))
    finally:
        docker("image", "rm", "scalemesh-other:1")
