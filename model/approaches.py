"""Approaches by name: the paper's variants and controls as changes of a configuration, and the baselines.

To add a baseline, write its module in `model/baselines` and add a line to APPROACHES.
"""

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from model.baselines.ada_co_att import AdaCoAtt
from model.baselines.bert import Bert, BertCRF
from model.baselines.recurrent import CnnBiLSTMCRF, HBiLSTMCRF
from model.baselines.umgf import UMGF
from model.baselines.umt import UMT
from model.baselines.vg_att import VgAtt
from model.config import TrainConfig
from model.tagger import FMIT, ModelSpec, Tagger
from schema.errors import ConfigError


class Approach(NamedTuple):
    """How an approach is built, a line about it, and what it changes in a dataset's configuration."""

    build: Callable[[ModelSpec], Tagger]
    about: str
    changes: Mapping[str, Any] = MappingProxyType({})  # these define the approach and always apply
    defaults: Mapping[str, Any] = MappingProxyType({})  # how it trains best, unless the dataset's section sets the key

    def configure(self, config: TrainConfig) -> TrainConfig:
        """The dataset's configuration with this approach's defaults and changes."""
        defaults = {name: value for name, value in self.defaults.items() if name not in config.model_fields_set}
        return TrainConfig.checked({**config.model_dump(), **defaults, **self.changes}, "train")


def _fmit(about: str, **changes: Any) -> Approach:
    return Approach(FMIT, about, changes)


# UMT: the paper's lambda; the public code's epochs, without early stopping; of the usual range of dropout (0.1 to 0.5)
# the value that is best on the dev posts of `smoke`. Learning rates are the dataset's.
UMT_BEST = {"ebd_weight": 0.5, "dropout": 0.5, "epochs": 12, "patience": 12}

TEXT, GRID = {"objects": "none"}, {"objects": "grid"}
UMGF_CHANGES = {"objects": "grounded", "layers": 2}  # the paper's depth, whatever the dataset's section sets for FMIT
# Both papers of the BiLSTM taggers: dropout 0.5, gradient norm 5; Ma and Hovy: batches of 10. They use SGD; learning
# rates and epochs, for Adam, are ours.
BILSTM: dict[str, Any] = {"dropout": 0.5, "clip": 5.0, "batch": 10, "lr_head": 2e-3, "lr_crf": 1e-2}
BILSTM |= {"warmup": 0.0, "schedule": "linear", "epochs": 20, "patience": 6}
# The weight decay prevents memorizing images: without it, dev F1 on `smoke` is 4 points lower.
ADA_CO_ATT = BILSTM | {"lr_head": 1e-3, "epochs": 30, "patience": 8, "weight_decay": 1.0}

APPROACHES: Mapping[str, Approach] = {
    "fmit": _fmit("FMIT as configured in the dataset's section"),
    **{f"fmit-l{depth}": _fmit(f"FMIT, {depth} layer(s): Table 2", layers=depth) for depth in (1, 3, 6, 12)},
    "fmit-no-obj": _fmit("w/o Obj of Table 5: the 7x7 grid instead of objects", objects="grid"),
    "fmit-no-rel": _fmit("w/o Rel of Table 5: no relative positions", relative=False),
    "fmit-no-ebd": _fmit("w/o EBD of Table 5: no boundary detection", ebd="off"),
    "fmit-text": _fmit("text only, no objects", objects="none"),
    "fmit-phrases": _fmit("objects of noun phrases only", objects="phrases"),
    "fmit-general": _fmit("objects of general words only", objects="general"),
    "fmit-image": _fmit("whole images only", objects="image"),
    "fmit-shuffled": _fmit("control: each post gets another post's images", control="shuffled"),
    "fmit-empty": _fmit("control: no post has an image", control="empty"),
    "bert": Approach(Bert, "text only: encoder, linear layer, softmax of each word", TEXT),
    "bert-crf": Approach(BertCRF, "text only: encoder, linear layer, CRF", TEXT),
    "umt": Approach(UMT, "Yu et al. 2020: cross-modal Transformers over the 7x7 grid, span detection", GRID, UMT_BEST),
    "umgf": Approach(UMGF, "Zhang et al. 2021: graph of words and grounded objects", UMGF_CHANGES),
    "cnn-bilstm-crf": Approach(CnnBiLSTMCRF, "text only: Ma and Hovy 2016, no pretrained encoder", TEXT, BILSTM),
    "hbilstm-crf": Approach(HBiLSTMCRF, "text only: Lample et al. 2016, no pretrained encoder", TEXT, BILSTM),
    "vg-att": Approach(VgAtt, "Lu et al. 2018: HBiLSTM-CRF, attention over the 7x7 grid, gate", GRID, BILSTM),
    "ada-co-att": Approach(AdaCoAtt, "Zhang et al. 2018: CNN-BiLSTM-CRF, co-attention, gates", GRID, ADA_CO_ATT),
}


def approach(name: str) -> Approach:
    """The approach of that name; raises ConfigError with the known names."""
    if name not in APPROACHES:
        near, names = difflib.get_close_matches(name, APPROACHES, n=1), ", ".join(APPROACHES)
        todo = f"did you mean {near[0]}? The approaches are {names}" if near else f"use one of {names}"
        raise ConfigError(f"unknown approach {name!r}", where="params.yaml approaches", todo=todo)
    return APPROACHES[name]
