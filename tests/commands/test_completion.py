"""The script is one that the shell itself takes."""

import shutil
import subprocess

import pytest
from click.testing import CliRunner

import cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_the_shells_own_language(shell):
    result = CliRunner().invoke(cli.main, ["completion", shell])
    assert result.exit_code == 0
    assert "_FMIT_COMPLETE" in result.stdout
    assert result.stderr == ""  # a shell evaluates it at each start
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=result.stdout, text=True, check=True)


def test_bash_completes_with_it(tmp_path):
    script = CliRunner().invoke(cli.main, ["completion", "bash"]).stdout
    done = subprocess.run(["bash", "-c", f"{script}\ncomplete -p fmit"], capture_output=True, text=True, check=True)
    assert "_fmit_completion fmit" in done.stdout


def test_another_shell_is_a_wrong_call():
    result = CliRunner().invoke(cli.main, ["completion", "tcsh"])
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.stderr
