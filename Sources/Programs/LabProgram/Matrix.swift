/// Who reaches whom on which port: expected by the oracle, seen by real packets.
import Addresses
import JSON
import Tables

public struct Matrix: Sendable {
  public struct Cell: Sendable {
    public let probe: Probe
    public let isExpected: Bool
    /// The deciding rule, in the oracle's words.
    public let because: String
    public let outcome: Outcome
    public var isRight: Bool { isExpected == outcome.isAnswered }
  }
  public let cells: [Cell]
  public var wrong: [Cell] { cells.filter { !$0.isRight } }

  /// One table for each family: rows ask, columns answer; a cell has one mark for each service, in the order of the legend.
  public func text(_ palette: Palette, names: [String], services: [Service]) -> String {
    var byProbe: [Probe: Cell] = [:]
    for cell in cells { byProbe[cell.probe] = cell }
    var text =
      "  each cell: \(services.map(\.description).joined(separator: " "))   ● reached  · not reached, as policy says   "
      + "✗ reached, should not be   ! not reached, should be\n"
    for family in IPFamily.allCases {
      var table = TextTable(["\(family): from \\ to"] + names)
      for from in names {
        var row: [TextTable.Cell] = [TextTable.Cell(from)]
        for to in names {
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
      text += "  \(palette("wrong", .red)): \(cell.probe.from) → \(cell.probe.to) \(cell.probe.service) \(cell.probe.family): "
      text += "expected \(cell.isExpected ? "reached" : "not reached") (\(cell.because)), \(cell.outcome)\n"
    }
    if wrong.count > 12 { text += "  … and \(wrong.count - 12) more\n" }
    return text
  }

  public func json() -> JSONValue {
    .array(
      cells.map { cell in
        [
          "from": .string(cell.probe.from), "to": .string(cell.probe.to), "family": .string(cell.probe.family.description),
          "service": .string(cell.probe.service.description), "expected": .bool(cell.isExpected), "seen": .bool(cell.outcome.isAnswered),
          "because": .string(cell.because), "outcome": .string(cell.outcome.description),
        ]
      })
  }
}
