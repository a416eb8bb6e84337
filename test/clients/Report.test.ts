import { describe, expect, it } from "vitest"
import { judge, type Run, table } from "./Report.ts"

const runOf = (server: Run["server"], steps: { readonly [name: string]: boolean }): Run => ({
  client: "some-client",
  server,
  roomVersion: "12",
  steps: Object.entries(steps).map(([name, ok]) => (ok ? { name, ok } : { name, ok, error: "refused" }))
})

describe("the result of the flows", () => {
  it("a step that only Greenroom fails is a failure", () => {
    const runs = [runOf("synapse", { send: true, edit: true }), runOf("greenroom", { send: true, edit: false })]
    expect(judge(runs)).toEqual({ passed: 1, failures: ["some-client, greenroom 12, edit: refused"], faults: [] })
  })

  it("a step that the control passes and Greenroom does not reach is a failure", () => {
    const runs = [runOf("synapse", { send: true, edit: true }), runOf("greenroom", { send: true })]
    expect(judge(runs).failures).toEqual(["some-client, greenroom 12, edit: not reached"])
  })

  it("a step that both fail is a fault of the flow and no failure", () => {
    const runs = [runOf("synapse", { send: false }), runOf("greenroom", { send: false })]
    expect(judge(runs)).toEqual({ passed: 0, failures: [], faults: ["some-client, synapse 12, send: refused"] })
  })

  it("without a control every failed step is a failure", () => {
    expect(judge([runOf("greenroom", { send: false })]).failures).toEqual(["some-client, greenroom 12, send: refused"])
  })

  it("a flow that ends with an error is a failure even if its steps passed", () => {
    const runs = [runOf("synapse", { send: true }), runOf("greenroom", { send: true, end: false })]
    expect(judge(runs).failures).toEqual(["some-client, greenroom 12, end: refused"])
  })

  it("the table has a row for each step and a column for each server", () => {
    expect(table([runOf("synapse", { send: true, edit: true }), runOf("greenroom", { send: false })])).toBe(
      [
        "client       step  synapse 12  greenroom 12",
        "some-client  send  pass        FAIL",
        "some-client  edit  pass        -"
      ].join("\n")
    )
  })
})
