/// Which policy decided each cell of a matrix: one line for each deciding rule and group of cells, so that a whole datacenter's decisions
/// fit on a page. `shop/web rule 1 (Allow): client-1, client-2 → web-1, web-2: tcp/80`
import Addresses
import PolicyOracle
import Resources
import Tables

extension Matrix {
  /// What decided, and on which side.
  private struct Reason: Hashable {
    let isAllowed: Bool
    let side: String
    let brief: String
    init(_ verdict: Verdict) {
      isAllowed = verdict.isAllowed
      let last = verdict.decisions.last
      side = last?.direction.map { $0.rawValue.lowercased() } ?? ""
      brief = verdict.decidedBy
    }
  }

  private struct Pair: Hashable {
    let from: String
    let to: String
  }

  public func reasons(_ palette: Palette) -> String {
    var table = TextTable(["decided by", "side", "", "cells"])
    for (reason, cells) in grouped() {
      for (index, line) in lines(cells).enumerated() {
        table.append([
          TextTable.Cell(index == 0 ? reason.brief : ""), TextTable.Cell(index == 0 ? reason.side : ""),
          reason.isAllowed ? TextTable.Cell("●", .green) : TextTable.Cell("·"), TextTable.Cell(line),
        ])
      }
    }
    return table.text(palette, indent: 2)
  }

  /// Allowing ones first; within them in the order of the cells.
  private func grouped() -> [(Reason, [Cell])] {
    var order: [Reason] = []
    var groups: [Reason: [Cell]] = [:]
    for cell in cells {
      let reason = Reason(cell.verdict)
      if groups[reason] == nil { order.append(reason) }
      groups[reason, default: []].append(cell)
    }
    return order.sorted { ($0.isAllowed ? 0 : 1, $0.brief, $0.side) < ($1.isAllowed ? 0 : 1, $1.brief, $1.side) }.map { ($0, groups[$0]!) }
  }

  /// Pairs with the same services together, as products of who asks and who answers.
  private func lines(_ cells: [Cell]) -> [String] {
    var services: [Pair: [String]] = [:]
    for from in from {
      for to in to {
        let mine = cells.filter { $0.probe.from == from && $0.probe.to == to }
        guard !mine.isEmpty else { continue }
        services[Pair(from: from, to: to)] = self.services.compactMap { service in
          let families = mine.filter { $0.probe.service == service }.map(\.probe.family)
          let possible = Set(self.cells.filter { $0.probe.from == from && $0.probe.to == to }.map(\.probe.family))
          if families.isEmpty { return nil }
          return Set(families) == possible ? service.description : "\(service) \(families[0])"
        }
      }
    }
    var lines: [String] = []
    var seen: Set<[String]> = []
    for list in services.sorted(by: { rank($0.key) < rank($1.key) }).map(\.value) where seen.insert(list).inserted {
      let askers = to.map { to in (to, from.filter { services[Pair(from: $0, to: to)] == list }) }.filter { !$0.1.isEmpty }
      var told: Set<[String]> = []
      for (_, names) in askers where told.insert(names).inserted {
        let answerers = askers.filter { $0.1 == names }.map(\.0)
        lines.append("\(names.joined(separator: ", ")) → \(answerers.joined(separator: ", ")): \(list.joined(separator: " "))")
      }
    }
    return lines
  }

  private func rank(_ pair: Pair) -> Int {
    (from.firstIndex(of: pair.from) ?? 0) * to.count + (to.firstIndex(of: pair.to) ?? 0)
  }
}

extension Matrix {
  /// For very few cells: everything that was looked at.
  public func trails() -> String {
    cells.map { cell in "  \(cell.probe): \(cell.verdict)\n" }.joined()
  }
}
