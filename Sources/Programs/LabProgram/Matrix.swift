/// Who reaches whom on which port: expected by the oracle, seen by real packets.
import Addresses
import JSON
import PolicyOracle
import Resources
import Tables

public struct Matrix: Sendable {
  public struct Cell: Sendable {
    public let probe: Probe
    public let verdict: Verdict
    public let outcome: Outcome
    public var isExpected: Bool { verdict.isAllowed }
    public var isRight: Bool { isExpected == outcome.isAnswered }
  }
  public let cells: [Cell]
  public let from: [String]
  public let to: [String]
  public let services: [Service]
  public var wrong: [Cell] { cells.filter { !$0.isRight } }

  /// One table for each family: rows ask, columns answer; a cell has one mark for each service, in the order of the legend.
  public func text(_ palette: Palette) -> String {
    var byProbe: [Probe: Cell] = [:]
    for cell in cells { byProbe[cell.probe] = cell }
    var text =
      "  each cell: \(services.map(\.description).joined(separator: " "))   ● reached  · not reached, as policy says   "
      + "✗ reached, should not be   ! not reached, should be\n"
    for family in IPFamily.allCases where cells.contains(where: { $0.probe.family == family }) {
      var table = TextTable(["\(family): from \\ to"] + to)
      for from in from {
        var row: [TextTable.Cell] = [TextTable.Cell(from)]
        for to in to {
          if from == to {
            row.append(TextTable.Cell(services.map { _ in " " }.joined(separator: " ")))
            continue
          }
          let marks = services.map { service -> (String, Bool) in
            guard let cell = byProbe[Probe(from: from, to: to, family: family, service: service)] else { return (" ", true) }
            return switch (cell.isExpected, cell.outcome.isAnswered) {
            case (true, true): ("●", true)
            case (false, false): ("·", true)
            case (false, true): ("✗", false)
            case (true, false): ("!", false)
            }
          }
          let text = marks.map(\.0).joined(separator: " ")
          row.append(marks.allSatisfy(\.1) ? TextTable.Cell(text) : TextTable.Cell(text, .bold, .red))
        }
        table.append(row)
      }
      text += table.text(palette, indent: 2)
    }
    for cell in wrong.prefix(12) {
      text += "  \(palette("wrong", .red)): \(cell.probe): "
      text += "expected \(cell.isExpected ? "reached" : "not reached") (\(cell.verdict.decidedBy)), \(cell.outcome)\n"
    }
    if wrong.count > 12 { text += "  … and \(wrong.count - 12) more\n" }
    return text
  }

  public func json() -> JSONValue {
    .array(
      cells.map { cell in
        var object = JSONObject([
          .init("from", .string(cell.probe.from)), .init("to", .string(cell.probe.to)),
          .init("family", .string(cell.probe.family.description)), .init("service", .string(cell.probe.service.description)),
          .init("expected", .bool(cell.isExpected)), .init("seen", .bool(cell.outcome.isAnswered)),
          .init("outcome", .string(cell.outcome.description)),
        ])
        object["decidedBy"] = .string(cell.verdict.decidedBy)
        if let step = cell.verdict.decisions.last {
          object["direction"] = step.direction.map { .string($0.rawValue) } ?? .null
          object["tier"] = step.tier.map { .string($0) } ?? .null
          object["policy"] = step.policy.map { .string($0.description) } ?? .null
          object["rule"] = step.ruleIndex.map { .integer(Int64($0 + 1)) } ?? .null
          object["action"] = .string(cell.isExpected ? "Allow" : "Deny")
          object["because"] = .string(step.description)
        }
        return .object(object)
      })
  }
}
