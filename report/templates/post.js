document.getElementById("cards").append(...data.posts.map(card));
