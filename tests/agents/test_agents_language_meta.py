"""The Meta-Agent as a model: it writes a scaffold that runs, or says why not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sia_flow.agents.language.faults import AgentFailedError
from sia_flow.agents.language.meta import LanguageMetaAgent
from sia_flow.agents.language.prompts import META as WORDS
from sia_flow.agents.language.prompts import system_of, unaided_system
from tests.agents.talks import PaperBench, Scripted, says
from tests.agents.world import REFERENCE
from tests.providers.claude import FIRST, META, change, package

SAMPLE = [{"task": "denoise", "cells": 90}]
BROKEN = change("broken", "return propose(job, prompt(job))", "return absent(job)")


def write(*replies: Any) -> tuple[dict[str, str], LanguageMetaAgent, Scripted]:
    model = Scripted(*(says(reply) if isinstance(reply, str) else reply for reply in replies))
    agent = LanguageMetaAgent(model, PaperBench(), SAMPLE, 9)
    return agent.write("# Denoise", REFERENCE, 0), agent, model


def test_it_reads_tries_and_writes_a_package() -> None:
    whole = change("prompts", "T: int = 3", "T: int = 4", {"prompts.md": "Be brief."})
    calls = (("list_files", {}), ("read_file", {"path": "data_sample.json"}), ("try_change", {"change": META}))
    files, agent, model = write(says("", *calls), package(whole))
    assert files["prompts.md"] == "Be brief."
    assert "T: int = 4" in files["scaffold.py"]
    listing, sample, tried = (result.text for result in model.results)
    assert "data_sample.json" in listing
    assert json.loads(sample) == SAMPLE
    assert "reward 0.1000" in tried
    assert agent.notes == "A sound start."
    assert "# Denoise" in model.everything


def test_no_change_means_the_reference() -> None:
    files, _, _ = write(package({"name": "as it is", "summary": "", "files": [], "patches": []}))
    assert files == REFERENCE


def test_a_failure_in_the_sandbox_is_shown_and_mended_once() -> None:
    files, _, model = write(package(BROKEN), package(FIRST))
    assert "KNN: int = 7" in files["scaffold.py"]
    assert "NameError" in model.heard
    with pytest.raises(AgentFailedError, match="NameError") as caught:
        write(package(BROKEN), package(BROKEN))
    assert caught.value.code == "edit"


def test_the_reason_why_not_is_kept_with_the_transcript() -> None:
    model = Scripted(says("no", stop="refusal"))
    agent = LanguageMetaAgent(model, PaperBench(), SAMPLE, 9)
    with pytest.raises(AgentFailedError, match="scripted refuses"):
        agent.write("# Denoise", REFERENCE, 0)
    assert b"# Denoise" in agent.transcript


def test_services_stand_in_the_contract_only_where_they_are_granted() -> None:
    said = {}
    for services in ((), ("https://api.example.org/", "http://127.0.0.1:8000/docs")):
        model = Scripted(says(package({"name": "as it is", "summary": "", "files": [], "patches": []})))
        LanguageMetaAgent(model, PaperBench(), SAMPLE, 9, services).write("# Denoise", REFERENCE, 0)
        said[services] = model.asked[0].system
    (bare, granted) = said.values()
    assert bare[:4] == system_of(WORDS, "# Denoise")
    assert "job.fetch" not in "".join(bare)
    assert [one == other for one, other in zip(bare, granted, strict=True)] == [True, False, True, True, True]
    assert granted[1].startswith(bare[1])
    assert "`job.fetch(url, headers=None)`" in granted[1]
    assert "within https://api.example.org/, http://127.0.0.1:8000/docs." in granted[1]
    assert unaided_system("text", "x", tuple(said)[1])[1] == granted[1]
    assert unaided_system("program", "x", tuple(said)[1]) == unaided_system("program", "x")
