/// `-l`: which objects, by their labels; in our selector language or in that of Kubernetes.
///
/// The two have no sentence in common that means different things: what is a selector (`app == 'web' && has(tier)`) is read as one, and
/// everything else as Kubernetes' list of conditions that must all hold: `app=web`, `app==web`, `app!=web`, `app in (web, db)`,
/// `app notin (web)`, `app`, `!app`.
import Selectors

public struct LabelFilter: Sendable {
  enum Condition: Hashable, Sendable {
    case exists(String)
    case absent(String)
    case oneOf(String, Set<String>)
    /// Also true where the label is absent, as in Kubernetes.
    case noneOf(String, Set<String>)
  }
  enum Form: Sendable {
    case selector(Selector)
    case conditions([Condition])
  }
  let form: Form

  public struct Problem: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
  }

  public init(_ text: String) throws(Problem) {
    let selectorFault: String
    do throws(SelectorError) {
      form = .selector(try Selector(parsing: text))
      return
    } catch {
      selectorFault = "\(error)"
    }
    do throws(TemplateError) {
      form = .conditions(try Self.conditions(text))
    } catch {
      // Whoever quotes or joins with && means a selector; the rest means labels.
      let meansSelector = text.contains("'") || text.contains("\"") || text.contains("&") || text.contains("|") || text.contains("{")
      throw Problem(
        description: meansSelector
          ? "\(text): \(selectorFault)" : "\(text): \(error.description); write app=web,tier!=db or a selector such as app == 'web'")
    }
  }

  private static func conditions(_ text: String) throws(TemplateError) -> [Condition] {
    var cursor = TemplateCursor(text)
    var conditions: [Condition] = []
    repeat {
      cursor.skipBlanks()
      if cursor.next == "!", cursor.peek(1) != "=" {
        cursor.advance()
        cursor.skipBlanks()
        conditions.append(.absent(try word(&cursor, "a label")))
        cursor.skipBlanks()
        continue
      }
      let label = try word(&cursor, "a label")
      cursor.skipBlanks()
      if cursor.take("!=") {
        conditions.append(.noneOf(label, [value(&cursor)]))
      } else if cursor.take("==") || cursor.take("=") {
        conditions.append(.oneOf(label, [value(&cursor)]))
      } else if let operation = ["notin", "in"].first(where: { cursor.starts(with: $0) }) {
        cursor.advance(operation.count)
        let values = try set(&cursor)
        conditions.append(operation == "in" ? .oneOf(label, values) : .noneOf(label, values))
      } else {
        conditions.append(.exists(label))
      }
      cursor.skipBlanks()
    } while cursor.take(",")
    if let scalar = cursor.next { throw cursor.error("\"\(scalar)\" is not expected here") }
    return conditions
  }
  private static func word(_ cursor: inout TemplateCursor, _ what: String) throws(TemplateError) -> String {
    let text = cursor.take(while: isLabelPart)
    if text.isEmpty { throw cursor.error("\(what) is missing") }
    return text
  }
  private static func value(_ cursor: inout TemplateCursor) -> String {
    cursor.skipBlanks()
    return cursor.take(while: isLabelPart)
  }
  private static func set(_ cursor: inout TemplateCursor) throws(TemplateError) -> Set<String> {
    cursor.skipBlanks()
    let start = cursor.position
    guard cursor.take("(") else { throw cursor.error("values in parentheses are missing, as in app in (web, db)") }
    var values: Set<String> = []
    repeat { values.insert(value(&cursor)); cursor.skipBlanks() } while cursor.take(",")
    guard cursor.take(")") else { throw TemplateError("the parenthesis that opens here has no closing )", at: start) }
    return values
  }
  private static func isLabelPart(_ scalar: Unicode.Scalar) -> Bool { scalar.isWord || scalar == "." || scalar == "-" || scalar == "/" }

  public func matches(_ labels: [String: String]) -> Bool {
    switch form {
    case .selector(let selector): selector.matches(labels)
    case .conditions(let conditions):
      conditions.allSatisfy { condition in
        switch condition {
        case .exists(let label): labels[label] != nil
        case .absent(let label): labels[label] == nil
        case .oneOf(let label, let values): labels[label].map { values.contains($0) } ?? false
        case .noneOf(let label, let values): labels[label].map { !values.contains($0) } ?? true
        }
      }
    }
  }
}
