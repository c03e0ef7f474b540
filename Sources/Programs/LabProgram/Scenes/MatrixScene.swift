/// Who reaches whom, and which policy says so.
import Addresses
import PolicyOracle
import Tables

extension Demo {
  func expectations() throws -> [Probe: Verdict] { try check.expectations() }

  func showMatrix(_ title: String, _ traffic: Traffic, _ result: inout Result) throws {
    narrator.heading(title)
    let (matrix, tries) = try narrator.step(
      "\(check.services.count) services × \(lab.topology.workloads.count) workloads × 2 families, real packets"
    ) {
      try check.matrix(traffic, settle: Duration.seconds(6))
    }
    narrator.say(matrix.text(narrator.palette))
    narrator.say(matrix.reasons(narrator.palette))
    let allowed = matrix.cells.count { $0.isExpected }
    narrator.say(
      "  \(matrix.cells.count) cells: \(allowed) expected to be reached, \(matrix.cells.count - allowed) not; "
        + (matrix.wrong.isEmpty ? narrator.palette("all as expected", .green) : narrator.palette("\(matrix.wrong.count) wrong", .red))
        + (tries > 1 ? " (after \(tries) rounds)" : ""))
    result.cells += matrix.cells.count
    result.wrong += matrix.wrong.count
  }
}
