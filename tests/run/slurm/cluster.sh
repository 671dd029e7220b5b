#!/usr/bin/env bash
# A real Slurm of several nodes on this machine: cluster.sh FOLDER, as the first process of namespaces of its own
# (slurm_cluster.py starts it so). Networks, daemons and jobs are gone with that process, however it ends.
set -euo pipefail
folder="$1" nodes=2
net=10.77.0

# Where each daemon looks for the others. Nobody outside this mount namespace sees it.
printf '127.0.0.1 localhost\n%s.254 desk\n' "$net" >"$folder/hosts"
for ((i = 1; i <= nodes; i++)); do echo "$net.$i n$i" >>"$folder/hosts"; done
mount --bind "$folder/hosts" /etc/hosts
hostname desk

ip link set lo up
ip link add bridge type bridge
ip address add "$net.254/24" dev bridge
ip link set bridge up

mkdir -p "$folder"/{state,log,run}
for i in 0 1; do mknod "$folder/gpu$i" c 1 3; done # what Slurm takes for two GPUs of each node, and torch does not
head -c 1024 /dev/urandom >"$folder/munge.key"
chmod 400 "$folder/munge.key"
munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/run/munge.socket" \
  --pid-file="$folder/run/munged.pid" --log-file="$folder/log/munged.log" --seed-file="$folder/run/munged.seed" &
until [[ -S $folder/run/munge.socket ]]; do sleep 0.02; done

export SLURM_CONF="$folder/slurm.conf"
slurmctld -D -c >"$folder/log/slurmctld.out" 2>&1 &
for ((i = 1; i <= nodes; i++)); do
  mkdir -p "$folder/spool/n$i"
  unshare --net --uts bash -c "
    hostname n$i
    echo \$\$ >'$folder/run/n$i'
    until ip link set eth0 up 2>/dev/null; do sleep 0.02; done # until the desk has plugged in the cable
    ip address add $net.$i/24 dev eth0
    ip link set lo up
    exec slurmd -D -N n$i >'$folder/log/slurmd.n$i.out' 2>&1" &
  until [[ -s $folder/run/n$i ]]; do sleep 0.02; done
  ip link add "veth$i" type veth peer name eth0 netns "$(<"$folder/run/n$i")"
  ip link set "veth$i" master bridge up
done

read -r _ || true # until whoever started the cluster closes it, or is gone
