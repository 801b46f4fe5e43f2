//! Every test against real parts: `tests/run` starts them. One binary; each verb has a module of its name, each other
//! module is one promise.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests may fail and write"
)]

mod support;

// ---- the verbs

// Every source is stored at every store, and gpg, zstd and tar read what went in.
mod backup;
// One file is printed whole, and only the frames that hold it are read.
mod cat;
// Every shell's script knows the verbs.
mod completions;
// The settings file holds, unless the command line or the environment say otherwise; `config` checks and shows it.
mod config;
// The same bytes arrive at another store without the passphrase; others do not.
mod copy;
// What backups need is tried out, and what is missing is told with what to change.
mod doctor;
// Every kind of difference is found, and none where there is none.
mod diff;
// What has a manifest is listed, oldest first, and what is damaged is named.
mod list;
mod locks;
// The members are listed from the catalog alone, their names escaped.
mod ls;
// Every verb has a man page that no formatter complains about.
mod man;
// What a set would hold, and what not, is said before anything is begun.
mod plan;
// Exactly what no rule keeps is deleted, after it was told, and the rest comes back.
mod prune;
// What exists opens with a new passphrase, too, and with no other.
mod rekey;
// What was backed up is the same in a folder, a volume, a container and the image store.
mod restore;
// A set's plan brings all of Docker EE back, and what no preset made; its steps are done, asked for, stopped and gone on with.
mod restore_set;
// A job, a set or a schedule is run once: with its hooks, within its time.
mod run_once;
// What is due is run, each a process of its own; reloads, signals and kills lose no night.
mod serve;
// The source, its end and the way back by hand are shown.
mod show;
// Screens of a real terminal, 80 and 40 columns wide, and typed mistakes with their answers.
mod screens;
// Whether every job has an archive that is new, whole and verified.
mod status;
// Every level finds what it promises to find, and records what it found in order.
mod verify;

// What a killed run left is taken back, a run under way is not touched, and there is one at a time.
mod clean;
// Whatever is killed, whenever: what is listed restores, and `clean` leaves nothing else.
mod kills;

// ---- what holds for all of them

// With `--cipher aead` every way back works, and OpenPGP.js reads it.
mod aead;
// What is asked wrongly is answered with an error and a hint, never with a panic.
mod bad_input;
// Whatever is done to stored bytes: never a wrong byte, exit code 13, and `verify` finds it.
mod damage;
// A night stores what changed, and needs the archives that have the rest.
mod increments;
// What is interrupted, vanishes or has an odd name spoils neither that night nor the next.
mod increment_failures;
// Long runs commit as they go, and what was committed is not sent again.
mod segments;
// At every store, at several at once, after older formats and after a copy, increments go on.
mod increment_stores;
// Databases are dumped by their own tools, and a dump without its end is no backup; what is shown brings them back.
mod databases;
// Drills restore for real, try what is there, tell what is not as it should be, and leave nothing.
mod drill;
// A dry run tells what the run would do, and leaves no trace.
mod dry_run;
// Docker EE's presets: what they refuse, what they stop and start again, what a failure leaves.
mod ee;
// A source that did not prove its end leaves no backup, no upload and no container.
mod failures;
// Archives that earlier builds made are read by this one, and by the tools of the system alone.
mod golden;
// Of an archive of several volumes one comes back, under its name or another, or all do.
mod volumes;
// Nothing that comes from outside makes a reader panic.
mod malformed;
// What is written, stored and shown is one name; foreign names stop nothing, and two sources are not one job.
mod names;
// What is needed of older archives is found, and what is lost is named.
mod needs;
// Nothing of a stream touches the local disk, and memory stays inside its bound.
mod no_disk;
// The package is installed, run by systemd in its sandbox, and removed; the container's image works beside an engine.
mod package;
// A pipe that closes is an answer; a closed stdout and a terminal are refused what they cannot take.
mod pipes;
// `--limit-rate`, `--nice` and `--io-nice` hold.
mod priority;
// `docs/FORMAT.md` is enough to write a reader from: one in Python reads what we make.
mod reader;
// What is stopped for a backup is so while the source is read, and as it was before afterwards, whatever is killed.
mod quiesce;
// The commands of the README and the guide work.
mod readme;
// A restored registry serves the same image.
mod registry;
// Archives without a catalog, and objects of other tools, are read from their front.
mod sequential;
// What the operator named is what is stored, and nothing in the environment changes that.
mod sources;
// The stand-ins for Docker EE behave as the vendor documents.
mod standins;
// A store that fails is named with a hint, nothing is listed, and the source is stopped.
mod stores;
// What other people's tars hold is read as the unpacker reads it, or refused with a reason.
mod tars;
// Those who are to be told of runs are told, and nothing else learns how; alerts fire when they should.
mod tell;
// Where the system starts no more threads, that is said, and nothing waits for them.
mod threads;
// A store with a certificate of one's own authority is trusted where that is named, and only there.
mod tls;
// Owners mean the same users in the containers of the engine that an archive came from and of the one it goes to.
mod userns;
