/// Which selectors match which items, kept current at the cost of what changed.
///
/// Items with the same own labels and the same parents (profiles) are one *class*: a selector is evaluated once per class, whatever the
/// number of replicas. Two indexes keep the evaluations few. A selector that can only match when some label has one of a few values is
/// filed under these values, so a new class asks only the selectors filed under its own labels. Classes are filed under their
/// labels, so a new selector asks only the classes that have what it needs.
///
/// Items and selectors are slots of the owner's arenas. The owner hears of every change of matches in the answer of the call that made it.
import Selectors

struct LabelIndex: Sendable {
  struct Shape: Hashable, Sendable {
    var labels: [String: String]
    /// In order: where two parents give the same label, the first wins; an own label wins over both.
    var parents: [String]
  }
  /// What an item matched before and after it was placed.
  struct Move {
    var before: Set<Int>
    var after: Set<Int>
  }
  /// Items whose inherited labels changed, with what they match more and less.
  struct Shift {
    var items: Set<Int>
    var gained: Set<Int>
    var lost: Set<Int>
  }
  private struct Class: Sendable {
    var shape: Shape
    var effective: [String: String]
    var items: Set<Int> = []
    var matches: Set<Int> = []
  }
  private struct Entry: Sendable {
    var selector: Selector
    var anchor: Anchor
    var classes: Set<Int> = []
  }
  /// What a selector is filed under: a condition that each of its matches fulfils.
  enum Anchor: Sendable {
    case values(label: String, [String])
    case present(label: String)
    case none
  }

  private var classes = Arena<Class>()
  private var classByShape: [Shape: Int] = [:]
  private var classByItem: [Int: Int] = [:]
  private var parentLabels: [String: [String: String]] = [:]
  private var classesByParent: [String: SlotSet] = [:]
  private var classesByLabel: [String: [String: SlotSet]] = [:]
  private var entries: [Int: Entry] = [:]
  private var selectorsByValue: [String: [String: SlotSet]] = [:]
  private var selectorsByPresence: [String: SlotSet] = [:]
  private var selectorsAnywhere: Set<Int> = []

  init() {}

  // MARK: Items

  func matches(ofItem item: Int) -> Set<Int> { classByItem[item].map { classes[$0].matches } ?? [] }
  /// Equal for items that match the same selectors for certain.
  func classSlot(ofItem item: Int) -> Int? { classByItem[item] }

  mutating func place(_ item: Int, _ shape: Shape) -> Move {
    let from = classByItem[item]
    if let from, classes[from].shape == shape {
      return Move(before: classes[from].matches, after: classes[from].matches)
    }
    let to = classByShape[shape] ?? addClass(shape)
    classes[to].items.insert(item)
    classByItem[item] = to
    let after = classes[to].matches
    return Move(before: from.map { leave($0, item) } ?? [], after: after)
  }

  /// Returns what it matched.
  mutating func remove(_ item: Int) -> Set<Int> { classByItem.removeValue(forKey: item).map { leave($0, item) } ?? [] }

  private mutating func leave(_ slot: Int, _ item: Int) -> Set<Int> {
    let matches = classes[slot].matches
    classes[slot].items.remove(item)
    if classes[slot].items.isEmpty {
      for selector in matches { entries[selector]!.classes.remove(slot) }
      file(slot, adding: false)
      classByShape[classes[slot].shape] = nil
      for parent in classes[slot].shape.parents {
        classesByParent[parent]?.remove(slot)
        if classesByParent[parent]?.isEmpty == true { classesByParent[parent] = nil }
      }
      classes.remove(slot)
    }
    return matches
  }

  private mutating func addClass(_ shape: Shape) -> Int {
    let slot = classes.add(Class(shape: shape, effective: effectiveLabels(shape)))
    classByShape[shape] = slot
    for parent in shape.parents { classesByParent[parent, default: .none].insert(slot) }
    file(slot, adding: true)
    classes[slot].matches = evaluate(classes[slot].effective)
    for selector in classes[slot].matches { entries[selector]!.classes.insert(slot) }
    return slot
  }

  private func effectiveLabels(_ shape: Shape) -> [String: String] {
    var labels = shape.labels
    for parent in shape.parents {
      if let inherited = parentLabels[parent] { labels.merge(inherited) { own, _ in own } }
    }
    return labels
  }

  private mutating func file(_ slot: Int, adding: Bool) {
    for (label, value) in classes[slot].effective {
      if adding {
        classesByLabel[label, default: [:]][value, default: .none].insert(slot)
      } else {
        classesByLabel[label]![value]!.remove(slot)
        if classesByLabel[label]![value]!.isEmpty { classesByLabel[label]![value] = nil }
        if classesByLabel[label]!.isEmpty { classesByLabel[label] = nil }
      }
    }
  }

  private func evaluate(_ labels: [String: String]) -> Set<Int> {
    var matches: Set<Int> = []
    func ask(_ slot: Int) {
      if entries[slot]!.selector.matches({ labels[$0] }) { matches.insert(slot) }
    }
    for (label, value) in labels {
      selectorsByValue[label]?[value]?.forEach(ask)
      selectorsByPresence[label]?.forEach(ask)
    }
    for slot in selectorsAnywhere { ask(slot) }
    return matches
  }

  // MARK: Parents

  /// States the labels that a parent gives (nil: the parent is missing) and returns whose matches changed by it.
  mutating func setParent(_ name: String, labels: [String: String]?) -> [Shift] {
    let labels = labels?.isEmpty == true ? nil : labels
    guard parentLabels[name] != labels else { return [] }
    parentLabels[name] = labels
    var shifts: [Shift] = []
    var heirs: [Int] = []
    classesByParent[name]?.forEach { heirs.append($0) }
    for slot in heirs {
      let effective = effectiveLabels(classes[slot].shape)
      guard effective != classes[slot].effective else { continue }
      file(slot, adding: false)
      classes[slot].effective = effective
      file(slot, adding: true)
      let before = classes[slot].matches
      let after = evaluate(effective)
      guard before != after else { continue }
      classes[slot].matches = after
      let shift = Shift(items: classes[slot].items, gained: after.subtracting(before), lost: before.subtracting(after))
      for selector in shift.gained { entries[selector]!.classes.insert(slot) }
      for selector in shift.lost { entries[selector]!.classes.remove(slot) }
      shifts.append(shift)
    }
    return shifts
  }

  // MARK: Selectors

  func hasMatches(_ selector: Int) -> Bool { entries[selector].map { !$0.classes.isEmpty } ?? false }

  func items(matching selector: Int) -> [Int] { entries[selector]?.classes.flatMap { classes[$0].items } ?? [] }

  /// Returns the items that match. The slot must be free.
  mutating func add(_ selector: Selector, as slot: Int) -> [Int] {
    precondition(entries[slot] == nil, "a selector slot is taken once")
    let anchor = narrowest(of: selector.anchors)
    var entry = Entry(selector: selector, anchor: anchor)
    func ask(_ candidate: Int) {
      let labels = classes[candidate].effective
      if selector.matches({ labels[$0] }) { entry.classes.insert(candidate) }
    }
    switch anchor {
    case .values(let label, let values):
      for value in values {
        selectorsByValue[label, default: [:]][value, default: .none].insert(slot)
        classesByLabel[label]?[value]?.forEach(ask)
      }
    case .present(let label):
      selectorsByPresence[label, default: .none].insert(slot)
      for candidates in (classesByLabel[label] ?? [:]).values { candidates.forEach(ask) }
    case .none:
      selectorsAnywhere.insert(slot)
      for candidate in classByShape.values { ask(candidate) }
    }
    for matched in entry.classes { classes[matched].matches.insert(slot) }
    entries[slot] = entry
    return items(matching: slot)
  }

  mutating func removeSelector(_ slot: Int) {
    guard let entry = entries.removeValue(forKey: slot) else { return }
    for matched in entry.classes { classes[matched].matches.remove(slot) }
    switch entry.anchor {
    case .values(let label, let values):
      // No values at all: a selector that contradicts itself is filed nowhere.
      for value in values {
        selectorsByValue[label]![value]!.remove(slot)
        if selectorsByValue[label]![value]!.isEmpty { selectorsByValue[label]![value] = nil }
      }
      if selectorsByValue[label]?.isEmpty == true { selectorsByValue[label] = nil }
    case .present(let label):
      selectorsByPresence[label]!.remove(slot)
      if selectorsByPresence[label]!.isEmpty { selectorsByPresence[label] = nil }
    case .none: selectorsAnywhere.remove(slot)
    }
  }

  /// The condition that the fewest classes fulfil now; the choice changes the cost, never the result.
  private func narrowest(of anchors: [Anchor]) -> Anchor {
    var best = Anchor.none
    var bestCost = Int.max
    for anchor in anchors {
      let cost =
        switch anchor {
        case .values(let label, let values): values.reduce(0) { $0 + (classesByLabel[label]?[$1]?.count ?? 0) }
        // The number of values stands for the number of classes; a presence ranks behind an equal list of values.
        case .present(let label): 1 + classes.count / 2 + (classesByLabel[label]?.count ?? 0)
        case .none: Int.max
        }
      if cost < bestCost {
        best = anchor
        bestCost = cost
      }
    }
    return best
  }
}
