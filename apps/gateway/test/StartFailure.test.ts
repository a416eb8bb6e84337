import { assert, describe, it } from "@effect/vitest"
import { TlsError } from "@greenroom/gateway/federation/TlsError"
import { ListenError } from "@greenroom/gateway/ListenError"
import { databaseRemedy } from "@greenroom/store/DatabaseRemedy"
import { Cause, Data } from "effect"
import { ClusterListenError, describeFailure, MetricsListenError } from "../src/StartFailure.ts"

class EmbeddedPostgresError extends Data.TaggedError("EmbeddedPostgresError")<{ readonly message: string }> {}

describe("StartFailure", () => {
  it("an address that is not of this machine is reported with the setting that named it", () => {
    const listen = new ListenError({ code: "EADDRNOTAVAIL", host: "10.0.0.1", port: 9101 })
    const where = "cannot listen on 10.0.0.1 port 9101 (EADDRNOTAVAIL)"
    assert.strictEqual(describeFailure(Cause.fail(listen)), `--host: ${where}`)
    assert.strictEqual(describeFailure(Cause.fail(new MetricsListenError({ listen }))), `metrics.host: ${where}`)
    assert.strictEqual(
      describeFailure(Cause.fail(new ClusterListenError({ listen }))),
      `--cluster-listen-host: ${where}`
    )
  })

  it("the message about a full disk has the option and the remedy", () => {
    const full = "ENOSPC: no space left on device, write"
    assert.strictEqual(describeFailure(Cause.die(new Error(full))), `${full}: the disk is full, make room`)
    assert.strictEqual(
      describeFailure(Cause.fail(new EmbeddedPostgresError({ message: `Cannot write into data: ${full}` }))),
      `--data-dir: Cannot write into data: ${full}: the disk is full, make room`
    )
    assert.strictEqual(
      describeFailure(Cause.fail(new TlsError({ message: `A TLS certificate cannot be made: ${full}` }))),
      `--data-dir: A TLS certificate cannot be made: ${full}: the disk is full, make room`
    )
    const named = "Cannot make the database in postgres (--data-dir): EACCES"
    assert.strictEqual(describeFailure(Cause.fail(new EmbeddedPostgresError({ message: named }))), named)
    assert.include(databaseRemedy("53100"), "Make room on the disk")
  })
})
