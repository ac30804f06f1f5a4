"""What a frame costs in the whole daemon, against a plain loop of the same models and against its own stages."""

from tests.benchmarks import modes
from tests.benchmarks.figures import Sheet
from tests.benchmarks.modes import MODES
from tests.benchmarks.setting import WARM_FRAMES, Setting, run_alone, take_turns
from tests.benchmarks.stages import total

TITLE = "The whole daemon"
ABOUT = f"""\
{modes.ABOUT}
All with one analyzer on one core, from the file to Redis with the spool on the disk. The *plain loop* is what somebody
writes who knows the libraries: PyAV, libswscale, the same models in fp32 in onnxruntime on one thread, one frame after
the other, no events. *Efficiency* is the sum of the stages alone over the whole: what is missing to 1 went to threads,
queues and caches that the stages share. The least of the rounds counts, of which ratios are made too: what else the
machine does can only add."""
TABLE = "Processor time of a frame, ms, one core"
SUM = "stages' sum"


def measure(setting: Setting, sheet: Sheet) -> None:
    """Measures plain loop, stages and both modes in turn on every clip."""
    setting.note_clips(sheet)
    with setting.redis() as url:
        for clip in take_turns(setting.rounds, setting.clips):
            file = setting.short(setting.clips[clip], setting.frames)
            warm = setting.short(file, WARM_FRAMES)
            plain = run_alone("plain", file, cores=1)
            stages = run_alone("stages", file, url, cores=1)
            runs = {name: run_alone("pipeline", file, "--warm", warm, "--url", url, *modes.options(mode), cores=1)
                    for name, mode in MODES.items()}
            spent = {"plain loop": ms_a_frame(plain), **{mode: ms_a_frame(run) for mode, run in runs.items()}}
            sheet.add(TABLE, clip, "faces a frame", runs["full"]["faces"] / runs["full"]["frames"])
            for name, value in spent.items():
                sheet.add(TABLE, clip, name, value, "ms", least=True)
            sheet.add(TABLE, clip, SUM, total(stages), "ms", least=True)
    for clip in setting.clips:
        for mode in MODES:
            sheet.add(TABLE, clip, f"plain loop / {mode}",
                      sheet.value(TABLE, clip, "plain loop") / sheet.value(TABLE, clip, mode))
        sheet.add(TABLE, clip, "efficiency", sheet.value(TABLE, clip, SUM) / sheet.value(TABLE, clip, "full"))


def ms_a_frame(run: dict[str, float]) -> float:
    """Returns the processor's ms for a frame of a run."""
    return 1000 * run["cpu"] / run["frames"]
