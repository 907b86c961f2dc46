"""The configuration of a run: its schema, and how YAML files and the command line fill it.

Each field of the schema says which values it takes, and when it may change.
"""

from aworld.config.agent import Agent, AgentProgram, Member
from aworld.config.changes import Change, decisive_sections, differences
from aworld.config.endpoint import Endpoint
from aworld.config.environment import Environment, McpServer
from aworld.config.loading import changed, fill, load, read, read_provenance, read_trackers, to_yaml
from aworld.config.model import Architecture, Model, Parallel, Shard, Yarn
from aworld.config.places import CONFIGS
from aworld.config.schema import Config, Evaluation, Keep, Pipeline, Rollout
from aworld.config.site import Images, Resources, Site
from aworld.config.tasks import Part, Source, Tasks
from aworld.config.training import ColdStart, Teacher, Training

__all__ = [
    "CONFIGS",
    "Agent",
    "AgentProgram",
    "Architecture",
    "Change",
    "ColdStart",
    "Config",
    "Endpoint",
    "Environment",
    "Evaluation",
    "Images",
    "Keep",
    "McpServer",
    "Member",
    "Model",
    "Parallel",
    "Part",
    "Pipeline",
    "Resources",
    "Rollout",
    "Shard",
    "Site",
    "Source",
    "Tasks",
    "Teacher",
    "Training",
    "Yarn",
    "changed",
    "decisive_sections",
    "differences",
    "fill",
    "load",
    "read",
    "read_provenance",
    "read_trackers",
    "to_yaml",
]
