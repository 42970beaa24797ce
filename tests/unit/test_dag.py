from __future__ import annotations

import threading
from pathlib import Path

import pytest

from stix import Dag, Task
from stix.model.errors import TaskError


def edges(dag: Dag) -> set[tuple[str, str, float | None]]:
    return {(dag.label(one.parent), dag.label(one.child), one.gb) for one in dag.edges}


def refused(text: str) -> TaskError:
    with pytest.raises(TaskError) as caught:
        Dag.from_yaml_text(text, source="p.yaml")
    return caught.value


def test_tasks_are_joined_when_made_in_the_block():
    with Dag("pipe") as dag:
        a, b, c = Task("a", run="1"), Task("b", run="2"), Task("c", run="3")
        a >> b >> c
    assert (dag.name, len(dag), dag.tasks) == ("pipe", 3, [a, b, c])
    assert edges(dag) == {("a", "b", None), ("b", "c", None)}
    assert dag.is_chain()
    Task("outside", run="4")
    assert len(dag) == 3


def test_equal_tasks_are_two_when_made_twice():
    with Dag() as dag:
        first, second = Task(run="x"), Task(run="x")
        first >> second
    assert [(one.parent, one.child) for one in dag.edges] == [(0, 1)]
    assert dag.label(1) == "task 2"


def test_a_file_s_task_joins_when_read_in_the_block(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("name: a\nrun: x")
    with Dag() as dag:
        Task.from_yaml(tmp_path / "a.yaml") >> Task.from_command("echo done")
    assert [task.run for task in dag.tasks] == ["x", "echo done"]


def test_an_inner_block_takes_its_own_tasks_when_nested():
    with Dag("outer") as outer:
        Task("a")
        with Dag("inner") as inner:
            Task("b")
        Task("c")
    assert [task.name for task in outer.tasks] == ["a", "c"]
    assert [task.name for task in inner.tasks] == ["b"]


def test_another_thread_s_tasks_stay_outside_when_made_meanwhile():
    with Dag() as dag:
        thread = threading.Thread(target=lambda: Task("elsewhere"))
        thread.start()
        thread.join()
    assert len(dag) == 0


def test_joining_outside_of_a_block_names_the_fix_when_tried():
    with pytest.raises(TaskError, match="with Dag"):
        Task("a") >> Task("b")


def test_dependencies_by_name_count_when_the_block_ends():
    with Dag() as dag:
        Task("a", outputs={"s3://b": 40})
        Task("b", depends_on={"a": "2GB"})
        Task("c", depends_on=["a"])
    assert edges(dag) == {("a", "b", 2.0), ("a", "c", None)}
    assert [dag.gb(one) for one in dag.edges] == [2.0, 40.0]
    with pytest.raises(TaskError, match='no task "zz"'), Dag():
        Task("b", depends_on=["zz"])


def test_an_edge_is_refused_when_it_closes_a_circle():
    dag = Dag()
    a, b, c = Task("a"), Task("b"), Task("c")
    dag.add_edge(a, b)
    dag.add_edge(b, c)
    with pytest.raises(TaskError, match="a cannot run after c: there is already a -> b -> c"):
        dag.add_edge(c, a)
    with pytest.raises(TaskError, match="the same task"):
        dag.add_edge(a, a)
    with pytest.raises(TaskError, match="gb: -1 is not an amount of data"):
        dag.add_edge(a, c, -1)
    assert len(dag.edges) == 2


def test_an_edge_has_its_last_size_when_given_again():
    dag = Dag()
    a, b = Task("a"), Task("b")
    dag.add_edge(a, b, 5)
    dag.add_edge(a, b, "1TB")
    assert edges(dag) == {("a", "b", 1024.0)}


def test_edges_follow_when_a_task_is_removed():
    with Dag() as dag:
        a, b, c, d = (Task(name) for name in "abcd")
        a >> b >> c >> d
    dag.remove(b)
    assert edges(dag) == {("c", "d", None)}
    with pytest.raises(TaskError, match="not in the Dag"):
        dag.remove(b)


def test_parents_come_first_when_ordered():
    with Dag() as dag:
        a, b, c = Task("a"), Task("b"), Task("c")
        c >> a
        b >> a
    assert [dag.label(index) for index in dag.topological_order()] == ["b", "c", "a"]
    assert not dag.is_chain()


def test_a_pipeline_is_a_chain_when_nothing_depends_on_anything():
    dag = Dag.from_yaml_text("name: p\n---\nrun: a\n---\nname: two\nrun: b\n---\nrun: c\n")
    assert (dag.name, dag.execution, len(dag)) == ("p", "serial", 3)
    assert [(one.parent, one.child) for one in dag.edges] == [(0, 1), (1, 2)]
    assert dag.to_yaml_text() == "name: p\n---\nrun: a\n---\nname: two\nrun: b\n---\nrun: c\n"


def test_a_file_of_one_task_is_a_dag_of_one_when_read():
    dag = Dag.from_yaml_text("name: a\nrun: x")
    assert (len(dag), dag.name, dag.edges) == (1, None, [])


def test_a_first_task_is_no_header_when_it_runs_something():
    assert len(Dag.from_yaml_text("name: a\nrun: x\n---\nname: b")) == 2


def test_a_graph_has_its_edges_and_sizes_when_tasks_depend_on_others():
    dag = Dag.from_yaml_text(
        "name: g\nmax_cost: 9\ndeadline: 6h\noptimize: balanced\n---\nname: a\noutputs: {s3://b: 7}\n---\n"
        "name: b\ndepends_on: a\n---\nname: c\ndepends_on: {a: 50GB, b: }\n---\nname: lone\n"
    )
    assert edges(dag) == {("a", "b", None), ("a", "c", 50.0), ("b", "c", None)}
    assert sorted(dag.gb(one) for one in dag.edges) == [0, 7, 50]
    assert (dag.max_cost, dag.deadline.epoch(0), dag.optimize) == (9, 21600, "balanced")
    assert Dag.from_yaml_text(dag.to_yaml_text()) == dag


def test_tasks_are_free_of_each_other_when_depends_on_is_empty():
    dag = Dag.from_yaml_text("name: a\ndepends_on: []\n---\nname: b\n")
    assert dag.edges == []
    assert Dag.from_yaml_text(dag.to_yaml_text()) == dag


def test_a_job_group_has_its_header_when_read():
    text = (
        "name: g\nexecution: parallel\nprimary_tasks: [train]\ninter_connection: false\n"
        "termination_delay: {default: 30s, server: 2m}\n---\nname: train\nrun: x\n---\nname: server\nrun: y\n"
    )
    dag = Dag.from_yaml_text(text)
    assert (dag.execution, dag.primary_tasks, dag.inter_connection) == ("parallel", ("train",), False)
    assert (dag.termination_delay("server"), dag.termination_delay("train")) == (120, 30)
    assert dag.edges == []
    assert Dag.from_yaml_text(dag.to_yaml_text()) == dag
    short = Dag("g", execution="parallel", termination_delay="45s")
    assert (short.termination_delay("any"), short.header.to_config()["termination_delay"]) == (45, "45s")


@pytest.mark.parametrize(
    ("text", "field", "line", "words"),
    [
        ("name: p\n---\nname: a\nrunn: x", "runn", 4, 'Did you mean "run"?'),
        ("name: p\n---\nname: a\n---\nname: a", "name", 5, "task 1 has that name already"),
        ("name: a\n---\nname: b\ndepends_on: [aa]\n", "depends_on.aa", 4, "there is no task"),
        ("name: aaa\nrun: x\n---\nname: b\ndepends_on: [aab]", "depends_on.aab", 5, 'Did you mean "aaa"?'),
        ("name: a\ndepends_on: b\n---\nname: b\ndepends_on: a", "depends_on.a", 5, "already b -> a"),
        ("name: a\ndepends_on: a\n---\nname: b", "depends_on.a", 2, "the same task"),
        ("name: p\nexecution: paralel\n---\nrun: x", "execution", 2, 'Did you mean "parallel"?'),
        ("name: p\nprimary_task: [a]\nexecution: parallel\n---\nname: a", "primary_task", 2, "primary_tasks"),
        ("name: p\nprimary_tasks: [a]\n---\nname: a", "primary_tasks", 2, "Write execution: parallel"),
        ("execution: parallel\n---\nname: a", "execution", 1, "a job group needs a name"),
        ("name: g\nexecution: parallel\n---\nrun: a", "name", 4, "needs a name"),
        ("name: g\nexecution: parallel\nprimary_tasks: [b]\n---\nname: a", "primary_tasks[0]", 3, "no task"),
        (
            "name: g\nexecution: parallel\ntermination_delay: {b: 5s}\n---\nname: a",
            "termination_delay.b",
            3,
            "no task",
        ),
        (
            "name: g\nexecution: parallel\ntermination_delay: soon\n---\nname: a",
            "termination_delay",
            3,
            '"90s"',
        ),
        (
            "name: g\nexecution: parallel\n---\nname: a\n---\nname: b\ndepends_on: a",
            "depends_on.a",
            7,
            "run at once",
        ),
        ("name: a\nname: b\n---\nrun: x", "name", 2, "given twice"),
    ],
)
def test_a_wrong_file_is_told_with_its_line_when_read(text: str, field: str, line: int, words: str):
    error = refused(text)
    problems = error.details["problems"]
    assert (field, line) in [(one["field"], one.get("line")) for one in problems], problems
    assert words in str(error)
    assert "Traceback" not in str(error)


def test_problems_of_all_documents_come_at_once_when_read():
    error = refused("run: [a]\n---\nnum_nodes: 0\n---\nresources:\n  cpus: x\n")
    told = [line.split(": ")[:2] for line in str(error).splitlines()]
    assert told == [["p.yaml:1:1", "run"], ["p.yaml:3:1", "num_nodes"], ["p.yaml:6:3", "resources.cpus"]]


def test_a_header_alone_is_refused_when_read():
    assert "a header and no task" in str(refused("name: g\nexecution: serial"))


def test_a_whole_dag_is_checked_when_validated():
    with pytest.raises(TaskError, match="no task in it"):
        Dag().validate()
    with Dag() as dag:
        Task("a")
        Task("a")
    with pytest.raises(TaskError, match="has that name already"):
        dag.validate()
    with pytest.raises(TaskError, match="max_cost: -1"):
        Dag(max_cost=-1)


def test_nameless_parents_are_refused_when_a_graph_is_written():
    with Dag() as dag:
        a, b, c = Task(run="a"), Task(run="b"), Task(run="c")
        a >> c
        b >> c
    with pytest.raises(TaskError, match="task 1 has no name"):
        dag.to_yaml_text()


def test_a_single_task_is_wanted_when_a_pipeline_is_given(tmp_path: Path):
    (tmp_path / "p.yaml").write_text("name: p\n---\nrun: a\n---\nrun: b\n")
    with pytest.raises(TaskError, match=r"p.yaml:3:1: this is a pipeline of 3 documents.*not supported by"):
        Task.from_yaml(tmp_path / "p.yaml")
    assert len(Dag.from_yaml(tmp_path / "p.yaml")) == 2
