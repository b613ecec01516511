"""What all pages are made of: templates, figures, pictures of cutouts, and sky maps.

A page is a Jinja2 template in the `templates` folder of its own package::

    {% extends "base.html" %}
    {% from "parts.html" import cards, figure, table %}
    {% block body %}
    {{ cards([("Accuracy", accuracy|percent, "95% interval " ~ limits|interval(as_percent=True))]) }}
    {{ heading("Calibration") }}  {# a section, listed at the top of the page #}
    <p>{{ galaxies|count("galaxy", "galaxies") }} were held out.</p>
    {{ table(["class", "recall"], rows, "Caption.") }}
    {% call figure(reliability) %}How to read it.{% endcall %}
    {% endblock %}

and is made by `page.render`, which escapes every value::

    render("train.report", "training.html", title=..., about=[("checkpoint", "43af")], galaxies=1200, rows=rows,
           reliability=embed(lambda width_px: reliability_diagram(width_px, bins), "Accuracy by confidence"))

`figures.embed` takes a function from a width in pixels to a matplotlib figure, and calls it once for wide and once for
narrow screens; `figures.panels` lays out its axes. `sky_map.draw_sky` makes such a figure of HEALPix cells.
"""
