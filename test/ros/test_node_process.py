# SPDX-License-Identifier: Apache-2.0
"""Questions to a node: asked again until answered, or exactly once."""

from __future__ import annotations

import math

from std_srvs.srv import Trigger

from video_depth_ros.ros.node_process import Question

from .robot import Robot


def test_a_question_nobody_heard_is_asked_again(robot: Robot) -> None:
    heard = []

    def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        heard.append(request)
        response.success = True
        return response

    client = robot.node.create_client(Trigger, "late")
    question = Question(client, Trigger.Request(), again=0.2)
    assert not question.answered()  # sent into the void: there is no such service yet
    robot.client.create_service(Trigger, "late", answer)
    with robot.spinning(robot.client):
        robot.wait(question.answered)
    assert question.answer().success and heard


def test_a_question_that_must_not_arrive_twice_is_asked_once(robot: Robot) -> None:
    heard = []

    def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        heard.append(request)
        return response

    robot.client.create_service(Trigger, "once", answer)
    client = robot.node.create_client(Trigger, "once")
    with robot.spinning(robot.client):
        robot.wait(client.service_is_ready)
        question = Question(client, Trigger.Request(), again=math.inf)
        robot.wait(question.answered)
    assert len(heard) == 1
