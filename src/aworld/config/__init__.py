"""The configuration of a run: its schema, and how YAML files and the command line fill it.

Each field of the schema says which values it takes, and when it may change.
"""

from aworld.config.agent import Agent, Member
from aworld.config.changes import Change, decisive_sections, differences
from aworld.config.endpoint import Endpoint
from aworld.config.environment import Environment, McpServer
from aworld.config.loading import changed, fill, load, read, read_provenance, to_yaml
from aworld.config.model import Architecture, Model, Parallel, Shard, Yarn
from aworld.config.places import CONFIGS
from aworld.config.schema import Config, Evaluation, Keep, Pipeline, Rollout
from aworld.config.site import Images, Resources, Site
from aworld.config.tasks import Tasks
from aworld.config.training import ColdStart, Training

__all__ = [
    "CONFIGS",
    "Agent",
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
    "Pipeline",
    "Resources",
    "Rollout",
    "Shard",
    "Site",
    "Tasks",
    "Training",
    "Yarn",
    "changed",
    "decisive_sections",
    "differences",
    "fill",
    "load",
    "read",
    "read_provenance",
    "to_yaml",
]
