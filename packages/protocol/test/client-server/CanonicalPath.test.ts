import { assert, describe, it } from "@effect/vitest"
import { canonicalClientServerUrl } from "../../src/client-server/CanonicalPath.ts"

describe("CanonicalPath", () => {
  it("paths with r0, a trailing slash or unstable prefixes are normalised to the routed path", () => {
    const spellings = {
      "/_matrix/client/r0/sync?since=s1/": "/_matrix/client/v3/sync?since=s1/",
      "/_matrix/client/v3/pushrules/": "/_matrix/client/v3/pushrules",
      "/_matrix/client/v3/rooms/!a:b/state/m.room.name/?x=1": "/_matrix/client/v3/rooms/!a:b/state/m.room.name?x=1",
      "/_matrix/client/unstable/uk.tcpip.msc4133/profile/@a:b/m.tz": "/_matrix/client/v3/profile/@a:b/m.tz",
      "/_matrix/client/unstable/im.nheko.summary/summary/!a:b": "/_matrix/client/v1/room_summary/!a:b",
      "/_matrix/client/unstable/im.nheko.summary/rooms/!a:b/summary?via=c":
        "/_matrix/client/v1/room_summary/!a:b?via=c",
      "/_matrix/client/unstable/org.matrix.msc4151/rooms/!a:b/report": "/_matrix/client/v3/rooms/!a:b/report",
      "/_matrix/client/unstable/org.matrix.msc4260/users/@a:b/report": "/_matrix/client/v3/users/@a:b/report",
      "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?pos=1": "/_matrix/client/v4/sync?pos=1",
      "/_matrix/client/unstable/account/3pid/bind": "/_matrix/client/v3/account/3pid/bind",
      "/_matrix/client/unstable/keys/device_signing/upload": "/_matrix/client/v3/keys/device_signing/upload",
      "/_matrix/client/unstable/keys/signatures/upload": "/_matrix/client/v3/keys/signatures/upload",
      "/_matrix/media/r0/upload?filename=a/": "/_matrix/media/v3/upload?filename=a/",
      "/_matrix/media/v1/download/a/b": "/_matrix/media/v3/download/a/b",
      "/_matrix/media/v1/create": "/_matrix/media/v1/create",
      "/_matrix/media/v3/create?x=1": "/_matrix/media/v1/create?x=1",
      "/_matrix/media/unstable/fi.mau.msc2246/create/": "/_matrix/media/v1/create",
      "/_matrix/client/versions": "/_matrix/client/versions",
      "/matrix/client/api/v1/login/": "/matrix/client/api/v1/login/"
    }
    for (const [spelling, routed] of Object.entries(spellings)) {
      assert.strictEqual(canonicalClientServerUrl(spelling), routed)
    }
  })
})
