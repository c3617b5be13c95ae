using System;

namespace FlexQ.Tests
{
    /// <summary>Marks the test of a scenario of bindings/test/scenarios.txt.</summary>
    [AttributeUsage(AttributeTargets.Method)]
    internal sealed class ScenarioAttribute : Attribute
    {
        internal ScenarioAttribute(string name)
        {
            Name = name;
        }

        internal string Name { get; }
    }
}
