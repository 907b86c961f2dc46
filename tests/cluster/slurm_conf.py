"""The configuration of a private Slurm on one machine: virtual nodes on the loopback, a low and a high partition."""

import os
import pwd
import socket
from dataclasses import dataclass
from pathlib import Path

USER = pwd.getpwuid(os.geteuid()).pw_name
MAX_ARRAY_SIZE = 51  # small, so that a larger array has to be split
GPUS = 8
# Slurm sets CUDA_VISIBLE_DEVICES only for GRES that are device files. It looks at their type alone, so any will do that
# every machine and container has.
DEVICES = ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts/ptmx"]


@dataclass(frozen=True)
class Settings:
    nodes: int = 4
    accounting: bool = True
    user_signal: bool = True  # preempt_send_user_signal: a job with --signal hears it when it is preempted
    grace: int = 10  # seconds from a preemption to the kill
    max_array_size: int = MAX_ARRAY_SIZE


DEFAULT = Settings()


def node_names(settings: Settings) -> list[str]:
    return [f"node{number}" for number in range(1, settings.nodes + 1)]


def slurm_conf(settings: Settings, folder: Path, name: str, ports: list[int], first_job: int) -> str:
    """Needs `settings.nodes + 2` ports: slurmctld's, slurmdbd's, one for each slurmd.

    Trainers choose their port by the number of their job, so clusters of one machine count from different numbers.
    """
    controller, accounting, *slurmds = ports
    host = socket.gethostname().split(".")[0]
    lines = f"""
        ClusterName={name}
        FirstJobId={first_job}
        SlurmctldHost={host}(127.0.0.1)
        SlurmctldPort={controller}
        SlurmUser={USER}
        SlurmdUser={USER}
        AuthType=auth/munge
        # a launch that takes longer fails, and a requeued job waits that long; see `small_run.hurry`
        AuthInfo=socket={folder}/run/munge.sock,cred_expire=20
        CredType=cred/munge
        StateSaveLocation={folder}/state
        SlurmdSpoolDir={folder}/spool/%n
        SlurmctldPidFile={folder}/run/slurmctld.pid
        SlurmdPidFile={folder}/run/%n.pid
        SlurmctldLogFile={folder}/log/slurmctld.log
        SlurmdLogFile={folder}/log/%n.log
        ProctrackType=proctrack/linuxproc
        TaskPlugin=task/none
        JobAcctGatherType=jobacct_gather/linux
        JobAcctGatherFrequency=30
        MpiDefault=none
        SwitchType=switch/none
        MailProg=/bin/true
        SlurmdParameters=config_overrides
        SelectType=select/cons_tres
        SelectTypeParameters=CR_Core_Memory
        DefMemPerCPU=256
        SchedulerType=sched/backfill
        SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0,batch_sched_delay=0
        PriorityType=priority/basic
        PreemptType=preempt/partition_prio
        PreemptMode=REQUEUE
        JobRequeue=1
        MaxArraySize={settings.max_array_size}
        # also a busy machine writes a checkpoint meanwhile
        KillWait=30
        InactiveLimit=0
        # for a machine so busy that a daemon may not run for a while
        MessageTimeout=60
        TCPTimeout=20
        BatchStartTimeout=30
        # a node whose slurmd is gone is then DOWN and its jobs are requeued; it is back as soon as slurmd is
        SlurmdTimeout=30
        SlurmctldTimeout=30
        ReturnToService=2
        GresTypes=gpu
        PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime={settings.grace}
        PartitionName=high Nodes=ALL PriorityTier=100 PreemptMode=OFF
        """
    if settings.user_signal:
        lines += "SlurmctldParameters=preempt_send_user_signal\n"
    if settings.accounting:
        lines += f"""
        AccountingStorageType=accounting_storage/slurmdbd
        AccountingStorageHost=127.0.0.1
        AccountingStoragePort={accounting}
        AccountingStoragePass={folder}/run/munge.sock
        AccountingStorageTRES=gres/gpu
        """
    for node, port in zip(node_names(settings), slurmds, strict=True):
        lines += (
            f"NodeName={node} NodeAddr=127.0.0.1 NodeHostname={host} Port={port} CPUs=16 Boards=1 SocketsPerBoard=2"
            f" CoresPerSocket=8 ThreadsPerCore=1 RealMemory=64000 TmpDisk=1000 Gres=gpu:h100:{GPUS} State=UNKNOWN\n"
        )
    return _flat(lines)


def gres_conf() -> str:
    return "".join(f"Name=gpu Type=h100 File=/dev/{device}\n" for device in DEVICES)


def slurmdbd_conf(folder: Path, port: int) -> str:
    """The database is reached through its socket only, which slurmdbd finds in MYSQL_UNIX_PORT."""
    return _flat(f"""
        AuthType=auth/munge
        AuthInfo=socket={folder}/run/munge.sock
        DbdHost=localhost
        DbdAddr=127.0.0.1
        DbdPort={port}
        SlurmUser={USER}
        LogFile={folder}/log/slurmdbd.log
        PidFile={folder}/run/slurmdbd.pid
        StorageType=accounting_storage/mysql
        StorageHost=localhost
        StorageUser={USER}
        StorageLoc=accounting
        """)


def _flat(text: str) -> str:
    return "".join(line.strip() + "\n" for line in text.splitlines() if line.strip())
