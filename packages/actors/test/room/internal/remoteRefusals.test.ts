import { assert, describe, it } from "@effect/vitest"
import { RemoteFailure } from "@greenroom/actors/room/RemoteRooms"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { inviteRefusalOf } from "../../../src/room/internal/remoteRefusals.ts"

describe("refusals of other servers", () => {
  it("an invite to a server that does not know the version of the room is refused as the client API has it", () => {
    const refusalOf = (status: number, errcode: string) =>
      inviteRefusalOf(
        ServerName.make("blue.test"),
        new RemoteFailure({ destination: "blue.test", reason: "no", status, errcode })
      )._tag
    assert.strictEqual(refusalOf(400, "M_INCOMPATIBLE_ROOM_VERSION"), "M_UNSUPPORTED_ROOM_VERSION")
    assert.strictEqual(refusalOf(403, "M_INVITE_BLOCKED"), "M_INVITE_BLOCKED")
    assert.strictEqual(refusalOf(400, "M_UNKNOWN"), "M_UNKNOWN")
  })
})
