"""Tasksets of verifiers: one whose rewards read the answer, and three that cannot be played so."""

import os

import verifiers.v1 as vf

__all__ = [os.environ.get("QUIZ", "Quiz")]  # verifiers takes the one that is named here


class Data(vf.TaskData):
    answer: str


class Sum(vf.Task[Data]):
    @vf.reward(weight=0.75)
    async def right(self, task: Data, trace: vf.Trace) -> float:
        return float(trace.last_reply == task.answer)

    @vf.reward(weight=0.25)
    async def number(self, trace: vf.Trace) -> float:
        return float(trace.last_reply.isdigit())

    @vf.metric
    async def length(self, trace: vf.Trace) -> float:
        return float(len(trace.last_reply))


class Quiz(vf.Taskset[Sum]):
    def load(self):
        for number in range(1, 4):
            yield Sum(Data(prompt=f"{number}+{number}?", answer=str(2 * number), id=f"n{number}"), self.config.task)


class Boxed(Sum):
    NEEDS_CONTAINER = True


class BoxedQuiz(vf.Taskset[Boxed]):
    def load(self):
        return []


class Looks(Sum):
    @vf.reward
    async def looks(self, runtime: vf.Runtime) -> float:
        return 1.0


class LooksQuiz(vf.Taskset[Looks]):
    def load(self):
        return []


class Endless(Quiz):
    INFINITE = True
