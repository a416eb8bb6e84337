import { assert, describe, it } from "@effect/vitest"
import { RemoteFailure } from "@greenroom/actors/room/RemoteRooms"
import { type RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { inviteRefusalOf, refusalOf } from "../../../src/room/internal/remoteRefusals.ts"

const blue = ServerName.make("blue.test")

const refused = (status: number, errcode: string) =>
  new RemoteFailure({ destination: blue, reason: "no", status, errcode })

describe("refusals of other servers", () => {
  it("an invite to a server that does not know the version of the room is refused as the client API has it", () => {
    const tagOf = (status: number, errcode: string) => inviteRefusalOf(blue, refused(status, errcode))._tag
    assert.strictEqual(tagOf(400, "M_INCOMPATIBLE_ROOM_VERSION"), "M_UNSUPPORTED_ROOM_VERSION")
    assert.strictEqual(tagOf(403, "M_INVITE_BLOCKED"), "M_INVITE_BLOCKED")
    assert.strictEqual(tagOf(400, "M_UNKNOWN"), "M_UNKNOWN")
  })

  it("what the other server finds faulty fails with a 5xx error: the client is not at fault", () => {
    for (const errcode of ["M_INVALID_PARAM", "M_MISSING_PARAM"]) {
      const failure = refused(400, errcode)
      assert.strictEqual(inviteRefusalOf(blue, failure)._tag, "M_CONNECTION_FAILED")
      assert.strictEqual(refusalOf("!room:blue.test" as RoomId, failure)._tag, "M_CONNECTION_FAILED")
    }
  })
})
