import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, type RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { roomVersion } from "@greenroom/room/RoomVersions"
import type { OpenedRoom } from "@greenroom/store/RoomStore"
import { outlier } from "../../../src/room/internal/RoomIntake.ts"
import { RoomState } from "../../../src/room/internal/RoomState.ts"

const green = ServerName.make("green.test")
const roomId = "!room:green.test" as RoomId
const message = { event_id: "$message" as EventId, room_id: roomId, type: "m.room.message", content: {} } as Event

const opened = (fence: number): OpenedRoom => ({
  roomNid: 1,
  version: "11",
  fence,
  forwardExtremities: [],
  current: undefined,
  joinedMembers: 0,
  joinedDepth: 0,
  showsMembers: undefined
})
const openedTimes = (fence: number) => new RoomState(roomId, opened(fence), roomVersion("11")!, green, [], new Map())

describe("RoomState", () => {
  it("a room is blank at its first opening until an event is logged", () => {
    const room = openedTimes(1)
    assert.isTrue(room.isBlank)
    room.log(room.beginStep(), outlier(message, 1))
    assert.isFalse(room.isBlank)
  })

  it("a room that was opened before is not blank: its events may be stored", () =>
    assert.isFalse(openedTimes(2).isBlank))
})
